-- Purpose: takes copied blocks: new ones by append's own rule, known ones by merging (Q1, Q7, Q8).
--   Blocks were written by SET NX in the same transaction; see append.lua.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys; then string, each block
-- ARGV: 1 the cookie wanted; 2 the version, 8 bytes; then for each block three: its numbers, as
--   `wire::copy_in` packs them; live records: index, ttl, 5 bytes each; marks, 38 bytes each
-- Returns: ok, coverage | stranger, held | gone | open | stale, version | gap, frontier
-- Atomic: a batch is taken whole or not at all, and no claim or delete slips in between.
local refused = stranger(KEYS[1], ARGV[1])
local r = not refused and load_current(KEYS[2])
local blocks, producers, changed = {}, {}, {}

-- What is known of a producer: frontier held, frontier with this batch, ordinals of new blocks.
local function known(producer)
  local of = producers[producer]
  if not of then
    local held, noted = producer_of(r, producer)
    of = {held = held, noted = noted, frontier = held, ords = {}}
    producers[producer] = of
  end
  return of
end

local function check()
  for _, k in ipairs(blocks) do
    local of = known(k.producer)
    k.is_above = r.told == 1 and k.number > of.held
    k.is_new = not k.is_above and k.number > of.frontier
    if k.is_new and k.number > of.frontier + 1 then return {'gap', of.held} end
    if k.is_new then of.frontier = k.number end
  end
end

-- What the new blocks add to the replica's numbers; their records of the index, as one string.
local function count_new()
  local index = {}
  for _, k in ipairs(blocks) do
    if k.is_new then
      local ord, arr, ords = r.arrived, math.max(0, now - k.age), producers[k.producer].ords
      r.arrived, r.bytes, r.live = ord + 1, r.bytes + k.size, r.live + k.live
      r.weight = r.weight + k.body - 16 * k.live
      if k.live > 0 then
        r.minexp, r.maxexp = math.min(r.minexp, arr + k.minttl), math.max(r.maxexp, arr + k.maxttl)
        if k.maxdelay > 0 then call('ZADD', r.p .. ':y', arr + k.maxdelay, ord) end
      end
      index[#index + 1] =
        pack(INDEX, k.producer, k.number, k.sent, k.live, arr, k.minttl, k.body, k.head)
      ords[#ords + 1] = pack('<I4', ord)
    end
  end
  return table.concat(index)
end

-- A producer's new blocks follow each other: one write for all of them.
local function store_new()
  local index = count_new()
  if index ~= '' then call('APPEND', r.p .. ':i', index) end
  for producer, of in pairs(producers) do
    if of.frontier > of.held then
      if of.held == 0 then r.producers = r.producers + 1 end
      call('HSET', r.p .. ':m', 'p' .. hex(producer), pack('<I4I4', of.frontier, of.noted))
      call('SETRANGE', r.p .. ':o:' .. hex(producer), 4 * of.held, table.concat(of.ords))
    end
  end
end

-- Removes what the transaction wrote of blocks that are not taken: of refused ones, and of those
-- that came before and of which nothing is left. What is noted down is known, and taken by now.
local function remove(k)
  local key = ('%s:b:%s:%d'):format(KEYS[2], hex(k.producer), k.number)
  local is_known = r and k.number <= (producer_of(r, k.producer))
  if not (is_known and open_block(r, k.producer, k.number)) then call('UNLINK', key) end
end

for at = 3, #ARGV, 3 do
  local k = {records = ARGV[at + 1], marks = ARGV[at + 2]}
  k.producer, k.number, k.age, k.size, k.sent, k.live, k.head, k.minttl, k.maxttl, k.maxdelay,
    k.body = unpack('<c8I4I8I4I2I2I2I4I4I4I4', ARGV[at])
  blocks[#blocks + 1] = k
end
refused = refused or (not r and {'gone'}) or not_sealed(r) or stale(r, ARGV[2]) or check()
if refused then
  for _, k in ipairs(blocks) do remove(k) end
  return refused
end
raise_version(r, ARGV[2])
store_new()
local asked = remembered(r)
for _, k in ipairs(blocks) do
  local refs = k.is_new and asked[k.producer .. pack('<I4', k.number)]
  if refs or k.marks ~= '' or not k.is_new then
    local b = not k.is_above and open_block(r, k.producer, k.number)
    if refs then recall(r, refs, b, changed) end
    if b and not k.is_new then merge_block(r, k, b) end
    if b then merge_marks(r, b, k.marks, changed) elseif not k.is_new then remove(k) end
  end
end
for _, c in ipairs(changed) do settle_claim(r, c) end
save_all(r)
return {'ok', coverage(r)}
