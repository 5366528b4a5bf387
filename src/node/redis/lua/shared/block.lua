-- Blocks: found by name or by ordinal, looked at and changed through their headers. The format is
-- that of src/block.rs. The index `P:i` has a record of 32 bytes for each ordinal:
-- producer (8 bytes), block, sent (65535: dropped by an end), live messages, arrival, shortest
-- ttl (a lower bound), bytes of the live messages with their records, length of the head.
local INDEX, INDEX_LEN, DROPPED = '<c8I4I2I2I6I4I4I2', 32, 65535
local by_key = {}

local function hex(producer) return ('%08x%08x'):format(unpack('>I4I4', producer)) end

local function index_of(r, ord)
  local i = {}
  local raw = call('GETRANGE', r.p .. ':i', ord * INDEX_LEN, ord * INDEX_LEN + INDEX_LEN - 1)
  i.producer, i.block, i.sent, i.live, i.arr, i.minttl, i.bytes, i.head = unpack(INDEX, raw)
  return i
end

local function index_record(i)
  return pack(INDEX, i.producer, i.block, i.sent, i.live, i.arr, i.minttl, i.bytes, i.head)
end

local function put_index(r, ord, i)
  call('SETRANGE', r.p .. ':i', ord * INDEX_LEN, index_record(i))
end

-- Calls visit(ordinal, index) from an ordinal on until it returns true.
local function walk(r, ord, visit)
  while ord < r.arrived do
    local raw = call('GETRANGE', r.p .. ':i', ord * INDEX_LEN, (ord + 64) * INDEX_LEN - 1)
    for at = 1, #raw, INDEX_LEN do
      local i = {}
      i.producer, i.block, i.sent, i.live, i.arr, i.minttl, i.bytes, i.head = unpack(INDEX, raw, at)
      if visit(ord, i) then return end
      ord = ord + 1
    end
  end
end

-- The stored block of that name, or false. `guess`: bytes to fetch at first.
local function open_block(r, producer, number, guess)
  local key = r.p .. ':b:' .. hex(producer) .. ':' .. ('%d'):format(number)
  local b = by_key[key]
  if b ~= nil then return b end
  local head = call('GETRANGE', key, 0, (guess or 1024) - 1)
  if head == '' then by_key[key] = false return false end
  b = {key = key, producer = producer, number = number, st = {}, tt = {}, ended = 0, lost = 0}
  b.n, b.ord, b.arr, b.sent, b.ext = unpack('<xxI2I4I8I2xxI4', head)
  b.at = 24 + 16 * b.n + b.ext
  if #head < b.at then head = head .. call('GETRANGE', key, #head, b.at - 1) end
  b.head, b.age = head, math.max(0, now - b.arr)
  by_key[key] = b
  return b
end

-- The stored block at an ordinal whose index record is at hand.
local function open_indexed(r, i)
  return open_block(r, i.producer, i.block, i.head + (i.bytes < 2048 and 2 * i.bytes or 0))
end

-- A record: index, state, client's slot, end of the envelope, ttl, delay.
local function record(b, pos)
  local index, state, slot, stop, ttl, delay = unpack('<BBBxI4I4I4', b.head, 9 + 16 * pos)
  return index, b.st[pos] or state, slot, stop, b.tt[pos] or ttl, delay
end

local function start_of(b, pos)
  return pos == 1 and 0 or (unpack('<I4', b.head, 16 * pos - 3))
end

-- The place of a message's record; nil if it was compacted away or never was.
local function position(b, index)
  if b.n == b.sent then return index < b.n and index + 1 or nil end
  local low, high = 1, b.n
  while low <= high do
    local mid = math.floor((low + high) / 2)
    local found = b.head:byte(9 + 16 * mid)
    if found == index then return mid end
    if found < index then low = mid + 1 else high = mid - 1 end
  end
end

-- The place of a message that has not ended or expired.
local function present(b, index)
  local pos = position(b, index)
  if not pos then return nil end
  local _, state, _, _, ttl = record(b, pos)
  if state ~= 1 and b.age < ttl then return pos end
end

-- References to messages travel as 13 bytes each: producer, block, index.
local function each_ref(raw, visit)
  for at = 1, #raw, 13 do
    local producer, number, index = unpack('<c8I4B', raw, at)
    visit(producer, number, index)
  end
end

-- A producer's field in `P:m`: frontier, noted, digest of its newest block (empty: not known).
local function producer_of(r, producer)
  local raw = call('HGET', r.p .. ':m', 'p' .. hex(producer))
  if not raw then return 0, 0, '' end
  local frontier, noted = unpack('<I4I4', raw)
  return frontier, noted, raw:sub(9)
end
