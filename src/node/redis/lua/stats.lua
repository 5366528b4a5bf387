-- Purpose: counts what the replica holds; sweeps what has expired, so that counts are sums.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted
-- Returns: ok, active, claimed, delayed, bytes, descriptions, runs |
--   stranger, held | gone | endunknown
--   bytes: of the envelopes of all of them
--   descriptions: the oldest and the newest message, if there is one
-- Atomic: the counts belong to one moment.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r then return {'gone'} end
r.marked = call('EXISTS', r.p .. ':x') == 1
refused = r.sealed == 1 and not_ended(r)
if refused then return refused end
local before = numbers(r)
reap(r)

local function sweep(b, i)
  b.minttl = nil
  for pos = 1, b.n do
    local _, state, _, _, ttl = record(b, pos)
    if state ~= 1 and b.age >= ttl then end_messages(r, b, pos, pos)
    elseif state ~= 1 then b.minttl = math.min(b.minttl or ttl, ttl) end
  end
  if b.ended == 0 and b.minttl then
    i.minttl = b.minttl
    put_index(r, i)
  end
  return b.minttl and b.arr + b.minttl
end

if now >= r.minexp then
  r.minexp = NEVER
  walk(r, r.first, function(_, i)
    if i.live == 0 then return end
    local expires = i.arr + i.minttl
    if now >= expires then expires = sweep(open_indexed(r, i), i) or NEVER end
    r.minexp = math.min(r.minexp, expires)
  end)
end
for _, b in ipairs(touched) do save_block(r, b) end
touched, r.blocks = {}, {}

local delayed = 0
call('ZREMRANGEBYSCORE', r.p .. ':y', '-inf', now)
for _, ord in ipairs(call('ZRANGE', r.p .. ':y', 0, -1)) do
  local b = open_indexed(r, index_of(r, tonumber(ord)))
  for pos = 1, b and b.n or 0 do
    local index, state, _, _, _, delay = record(b, pos)
    if state ~= 1 and b.age < delay and not holder(r, (mark_of(r, b, index))) then
      delayed = delayed + 1
    end
  end
end

local e = describe()
local function add_first(b, from, to, step)
  for pos = from, to, step do
    local _, state = record(b, pos)
    if state ~= 1 then return add_entry(e, r, b, pos) end
  end
end
if r.live > 0 then
  walk(r, r.first, function(ord, i)
    r.first = ord
    if i.live == 0 then return false end
    local b = open_indexed(r, i)
    add_first(b, 1, b.n, 1)
    return true
  end)
  for ord = r.arrived - 1, 0, -1 do
    local i = index_of(r, ord)
    if i.live > 0 then
      local b = open_indexed(r, i)
      add_first(b, b.n, 1, -1)
      break
    end
  end
end
local texts, runs = described(e)
save_claims(r)
-- Sweeping changes nothing about when the replica is due: what it swept had been due.
-- What counts as it did is not written: it would wake those who watch the replica.
local after = numbers(r)
if after ~= before then call('HSET', r.p .. ':m', 'h', after) end
return {'ok', r.live - r.held - delayed, r.held, delayed, r.weight, texts, runs}
