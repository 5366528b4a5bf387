-- Purpose: picks messages for claims, each on the first replica that has some (Q7).
-- KEYS: 1 string, the cookie; then prefixes `P` of replicas, in the order of their segments
-- ARGV: 1 the cookie wanted; then for each claim six: version, 8 bytes; claim, 8 bytes; ttl; grace;
--   limit; bytes of envelopes at most
-- Returns: for each claim: ok, which replica (from 1; 0: none), rank, descriptions, runs,
--   {which, refusal, ...} | stranger, held
-- Atomic: what is free is marked in the step that finds it free.
local version, key, ttl, grace, limit, max_bytes, e
local loaded, current = {}, nil

-- Writes what has changed of the replica that was looked at last.
local function leave_replica()
  if not current then return end
  if current.changed then save_all(current) end
  current.blocks, current.names, current.changed = nil, nil, false
  current, touched = nil, {}
end

-- The replica of that place, the only one with unwritten changes; nil if it is not there.
local function look_at(which)
  if loaded[which] == nil or current ~= loaded[which] then
    leave_replica()
    claims = {}
    loaded[which] = loaded[which] or load_replica(KEYS[which + 1]) or false
    current = loaded[which] or nil
  end
  return current
end

local function pick(r)
  reap(r)
  save_claims(r)
  local taken = gather_all(r, limit, max_bytes)
  r.changed = true
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

local function answer(which, rank, refusals)
  local texts, runs = described(e)
  local before = {}
  for _, refusal in ipairs(refusals) do
    if which == 0 or refusal[1] < which then
      before[#before + 1], before[#before + 2] = refusal[1], refusal[2]
    end
  end
  return {'ok', which, rank, texts, runs, before}
end

local function claim()
  local refusals, willing = {}, {}
  e = describe()
  for which = 1, #KEYS - 1 do
    local r = look_at(which)
    local refusal = not r and {'gone'} or not_ended(r) or stale(r, version)
    if refusal then refusals[#refusals + 1] = {which, refusal}
    else willing[#willing + 1] = which end
  end
  for _, look in ipairs({repeated, pick}) do
    for _, which in ipairs(willing) do
      local r = look_at(which)
      local c = look(r)
      if c then
        raise_version(r, version)
        r.changed = true
        return answer(which, c.rank, refusals)
      end
    end
  end
  return answer(0, '', refusals)
end

for at = at, #ARGV, 6 do
  version, key, ttl, grace = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  limit, max_bytes = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  replies[#replies + 1] = refused or claim()
end
leave_replica()
return replies
