-- Purpose: takes copied blocks: new ones by append's own rule, known ones by merging (Q1, Q7, Q8).
--   Blocks were written by SET NX in the same transaction; see append.lua.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys; then string, each block
-- ARGV: 1 the cookie wanted; then for each block three: its numbers, packed as `wire::copy_in`
--   does; its live records: index and ttl, 5 bytes each; its marks, 38 bytes each
-- Returns: ok, coverage | stranger, held | gone | open | gap, frontier
-- Atomic: a batch is taken whole or not at all, and no claim or delete slips in between.
local refused = stranger(KEYS[1], ARGV[1])
local r = not refused and load_replica(KEYS[2])
local blocks, changed = {}, {}

local function check()
  if not r then return {'gone'} end
  if r.sealed == 0 then return {'open'} end
  local frontiers = {}
  for _, k in ipairs(blocks) do
    local held = producer_of(r, k.producer)
    local frontier = frontiers[k.producer] or held
    if k.number > frontier + 1 then return {'gap', held} end
    frontiers[k.producer] = math.max(k.number, frontier)
  end
end

local function store(k, frontier, noted)
  local ord, arr = r.arrived, math.max(0, now - k.age)
  r.arrived, r.bytes, r.live = ord + 1, r.bytes + k.size, r.live + k.live
  if k.live > 0 then
    r.minexp, r.maxexp = math.min(r.minexp, arr + k.minttl), math.max(r.maxexp, arr + k.maxttl)
    if k.maxdelay > 0 then call('ZADD', r.p .. ':y', arr + k.maxdelay, ord) end
  end
  call('APPEND', r.p .. ':i',
    pack(INDEX, k.producer, k.number, k.sent, k.live, arr, k.minttl, k.body, k.head))
  if frontier == 0 then r.producers = r.producers + 1 end
  call('HSET', r.p .. ':m', 'p' .. hex(k.producer), pack('<I4I4', k.number, noted))
  call('SETRANGE', r.p .. ':o:' .. hex(k.producer), 4 * k.number - 4, pack('<I4', ord))
  if r.names then r.names[k.producer .. k.number] = nil end
  return open_block(r, k.producer, k.number)
end

local function merge(k, b)
  local others = {}
  for at = 1, #k.records, 5 do
    local index, ttl = unpack('<BI4', k.records, at)
    if k.age < ttl then others[index] = ttl end
  end
  for pos = 1, b.n do
    local index, state, _, _, ttl = record(b, pos)
    local other = others[index]
    if state ~= 1 and other and b.age < ttl then
      b.tt[pos] = math.max(ttl, other)
      r.maxexp = math.max(r.maxexp, b.arr + b.tt[pos])
      touch(b)
    elseif state ~= 1 then
      end_message(r, b, pos)
    end
  end
end

-- Removes what the transaction wrote of blocks that are not taken: of refused ones, and of those
-- that have come before and of which nothing is left.
local function remove(k)
  local key = ('%s:b:%s:%d'):format(KEYS[2], hex(k.producer), k.number)
  local known = r and k.number <= (producer_of(r, k.producer))
  if not (known and open_block(r, k.producer, k.number)) then call('UNLINK', key) end
end

for at = 2, #ARGV, 3 do
  local k = {records = ARGV[at + 1], marks = ARGV[at + 2]}
  k.producer, k.number, k.age, k.size, k.sent, k.live, k.head, k.minttl, k.maxttl, k.maxdelay,
    k.body = unpack('<c8I4I8I4I2I2I2I4I4I4I4', ARGV[at])
  blocks[#blocks + 1] = k
end
refused = refused or check()
if refused then
  for _, k in ipairs(blocks) do remove(k) end
  return refused
end
for _, k in ipairs(blocks) do
  local frontier, noted = producer_of(r, k.producer)
  local b
  if k.number > frontier then
    b = store(k, frontier, noted)
    recall(r, k, b, changed)
  else
    b = open_block(r, k.producer, k.number)
    if b then merge(k, b) else remove(k) end
  end
  if b then merge_marks(r, b, k.marks, changed) end
end
for _, c in ipairs(changed) do settle_claim(r, c) end
save_all(r)
return {'ok', coverage(r)}
