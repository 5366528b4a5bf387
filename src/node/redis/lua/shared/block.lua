-- Blocks, looked at through their heads. The format is that of src/block.rs. The index `P:i` has 32
-- bytes for each ordinal: producer (8 bytes), block, sent (65535: dropped by an end), live
-- messages, arrival, shortest ttl (a lower bound), bytes of the live messages with their records,
-- length of the head.
local INDEX_LEN, DROPPED = 32, 65535

local function index_record(raw, at, ord)
  local i = {ord = ord}
  i.producer, i.block, i.sent, i.live, i.arr, i.minttl, i.bytes, i.head = unpack(INDEX, raw, at)
  return i
end

local function index_of(r, ord)
  local from = ord * INDEX_LEN
  return index_record(call('GETRANGE', r.p .. ':i', from, from + INDEX_LEN - 1), 1, ord)
end

local function put_index(r, i)
  call('SETRANGE', r.p .. ':i', i.ord * INDEX_LEN,
    pack(INDEX, i.producer, i.block, i.sent, i.live, i.arr, i.minttl, i.bytes, i.head))
end

-- Calls visit(ordinal, index) from an ordinal on until it returns true.
local function walk(r, ord, visit)
  local some = 4
  while ord < r.arrived do
    local raw = call('GETRANGE', r.p .. ':i', ord * INDEX_LEN, (ord + some) * INDEX_LEN - 1)
    some = 64
    for at = 1, #raw, INDEX_LEN do
      if visit(ord, index_record(raw, at, ord)) then return end
      ord = ord + 1
    end
  end
end

local function block_key(r, i) return ('%s:b:%s:%d'):format(r.p, hex(i.producer), i.block) end

-- By its index record and the beginning of its bytes.
local function block_of(r, i, head)
  local b = {key = block_key(r, i), i = i, ord = i.ord, arr = i.arr, age = math.max(0, now - i.arr),
    sent = i.sent, producer = i.producer, number = i.block, head = head, at = i.head,
    st = {}, tt = {}, ended = 0, lost = 0}
  b.n, b.ext = (unpack('<I2', head, 3)), unpack('<I4', head, 21)
  return b
end

-- The stored block of an index record, or false if there is none. Small ones are fetched whole.
local function open_indexed(r, i)
  r.blocks = r.blocks or {}
  local b = r.blocks[i.ord]
  if b or i.live == 0 then return b or false end
  local last = i.head + (i.bytes < 2048 and 2 * i.bytes or 0) - 1
  b = block_of(r, i, call('GETRANGE', block_key(r, i), 0, last))
  r.blocks[i.ord] = b
  return b
end

-- The stored block of that name, or false.
local function open_block(r, producer, number)
  r.names = r.names or {}
  local name = producer .. number
  local b = r.names[name]
  if b == nil then
    local ord = ordinal_of(r.p, producer, number)
    b = ord and open_indexed(r, index_of(r, ord)) or false
    r.names[name] = b
  end
  return b
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
  local pos = b.n == b.sent and index < b.n and index + 1 or position(b, index)
  if not pos or (b.st[pos] or b.head:byte(10 + 16 * pos)) == 1 then return nil end
  if b.age < b.i.minttl then return pos end
  return b.age < (b.tt[pos] or unpack('<I4', b.head, 17 + 16 * pos)) and pos or nil
end
