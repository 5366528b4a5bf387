-- Purpose: picks messages for a claim on the first replica that has some (Q7).
-- KEYS: 1 string, the cookie; then prefixes `P` of replicas, in the order of their segments
-- ARGV: 1 the cookie wanted; 2 version, 8 bytes; 3 claim, 8 bytes; 4 ttl; 5 grace; 6 limit;
--   7 bytes of envelopes at most
-- Returns: ok, which replica (from 1; 0: none), rank, descriptions, runs, {which, refusal, ...} |
--   stranger, held
-- Atomic: what is free is marked in the step that finds it free.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local version, key = ARGV[2], ARGV[3]
local ttl, grace = tonumber(ARGV[4]), tonumber(ARGV[5])
local limit, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local e, refusals, willing = describe(), {}, {}

local function pick(r)
  reap(r)
  save_claims(r)
  local taken = gather_all(r, limit, max_bytes)
  if #taken == 0 then return nil end
  r.picks = r.picks + 1
  local c = start_claim(r, key, version .. pack('>I4', r.picks), ttl, now + ttl)
  for _, at in ipairs(taken) do
    mark(r, at[1], at[2], at[3], c, now + ttl + grace)
    add_claimed(e, r, at[1], at[2], at[3])
  end
  settle_claim(r, c)
  return c
end

local function repeated(r)
  local c = claim_of(r, key)
  if not c or now >= c.ends then return nil end
  members(r, c, function(b, pos) add_entry(e, r, b, pos) end)
  return c
end

local function answer(which, rank)
  local texts, runs = described(e)
  local before = {}
  for _, refusal in ipairs(refusals) do
    if which == 0 or refusal[1] < which then
      before[#before + 1], before[#before + 2] = refusal[1], refusal[2]
    end
  end
  return {'ok', which, rank, texts, runs, before}
end

for which = 1, #KEYS - 1 do
  local r = load_replica(KEYS[which + 1])
  local refusal = not r and {'gone'} or not_ended(r) or stale(r, version)
  if refusal then refusals[#refusals + 1] = {which, refusal}
  else willing[#willing + 1] = {which, r} end
end
for _, look in ipairs({repeated, pick}) do
  for _, at in ipairs(willing) do
    local which, r = at[1], at[2]
    claims = {}
    local c = look(r)
    if c then
      raise_version(r, version)
      save_all(r)
      return answer(which, c.rank)
    end
    if look == pick then save_replica(r) end
  end
end
return answer(0, '')
