-- The quick way of picks, holds and deletes: runs of neighbours in blocks from which nothing was
-- cut, that are all marked alike, on a replica that was told its end. What is not so is left, with
-- all that comes behind it in the call, to the full way. This one stands before everything else,
-- since each function that a script defines costs its call 0.3 us.
-- Of the arguments the full way begins at `at`, and adds to `replies`.
local at, replies = 2, {}
local refused = stranger(KEYS[1], ARGV[1])
local prefix = KEYS[2]
local held_numbers, version, blocks, names = nil, nil, {}, {}
if not refused then
  local got = call('HMGET', prefix .. ':m', 'h', 'v')
  if got[1] and got[1]:byte(2) == 1 and got[1]:byte(3) == 1 then
    held_numbers, version = got[1], got[2]
  end
end

-- A number as an argument: what is given to a command as a number goes through floating point.
local function text(number) return ('%d'):format(number) end

-- The block of that ordinal; false if there is something special about it. Its index record is
-- read with one byte more: of a string of 32 bytes Lua hashes every other one, which are the same
-- for most blocks.
local function quick_block(ord)
  local b = blocks[ord]
  if b == nil then
    local raw = call('GETRANGE', prefix .. ':i', text(ord * 32), text(ord * 32 + 32))
    local producer, number, sent, alive, arr, minttl, size, head = unpack(INDEX, raw)
    b = {ord = ord, name = text(ord), producer = producer, number = number, sent = sent,
      alive = alive, arr = arr, minttl = minttl, size = size, at = head, lost = 0}
    if alive > 0 then
      if sent > 256 or now - arr >= minttl or minttl == 0 then b = false
      else
        b.whole = alive == sent
        b.marks = call('HGET', prefix .. ':x', b.name) or ''
      end
    end
    blocks[ord] = b
  end
  return b
end

-- A producer as key names have it.
local function quick_name(producer)
  local name = names[producer]
  if not name then
    name = ('%08x%08x'):format(unpack('>I4I4', producer))
    names[producer] = name
  end
  return name
end

-- The same by name; false too if nothing is left of it.
local function quick_named(producer, number)
  local name = producer .. number
  local b = blocks[name]
  if b == nil then
    local key = prefix .. ':o:' .. quick_name(producer)
    local raw = number > 0 and call('GETRANGE', key, text(4 * number - 4), text(4 * number - 1))
    b = raw and #raw == 4 and quick_block((unpack('<I4', raw))) or false
    if b and b.alive == 0 then b = false end
    blocks[name] = b
  end
  return b
end

-- The records of messages, with the one before them if there is one; false if something was cut
-- out of the block, so that they are elsewhere.
local function quick_records(b, first, last)
  b.key = b.key or ('%s:b:%s:%d'):format(prefix, quick_name(b.producer), b.number)
  if b.whole == false then
    b.whole = unpack('<I2', call('GETRANGE', b.key, '2', '3')) == b.sent or nil
  end
  local from = first > 0 and 8 + 16 * first or 24
  return b.whole and call('GETRANGE', b.key, text(from), text(39 + 16 * last))
end

-- Answers the operations of the call, each of so many arguments, up to the first that is to go the
-- full way.
local function quick_all(one, arguments)
  while at <= #ARGV do
    local reply = one()
    if not reply then break end
    replies[#replies + 1], at = reply, at + arguments
  end
end
