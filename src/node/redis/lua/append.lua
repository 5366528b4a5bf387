-- Purpose: takes the next blocks of several producers on several replicas (Q1, Q4, Q9).
--   The blocks themselves were written by SET NX in the same transaction, those without messages
--   not at all: bodies never pass through here. A block that is refused, or was taken before and
--   has gone since, is removed again.
-- KEYS: 1 string, the cookie; then for each block: string, the block; hash `P:m`, the replica
-- ARGV: 1 the cookie wanted; then for each block its numbers, packed as `wire::append` does
-- Returns: if all blocks are taken for the first time, one string with 8 bytes for each, the
--   replica's bytes, and 8 for the time (an array for each would cost as much as what is done for
--   the block); else an array with one array for each block: ok, again (0 or 1), bytes |
--   stranger, held | gone | sealed | producers | gap, frontier | conflict
-- Atomic: whether a block is the next one and its becoming so are one step, and a refused
--   block's bytes must not be seen by anybody.
local refused = stranger(KEYS[1], ARGV[1])

-- Removes what the transaction wrote, unless the replica had it: then nothing was written.
local function remove(key, m, raw)
  local number, field = (unpack('<I4', raw)), 'p' .. key:sub(#m + 2, #m + 17)
  local known = call('HGET', m, field)
  if known and number > 0 and number <= (unpack('<I4', known)) then
    local p = m:sub(1, -3)
    local ord = call('GETRANGE', p .. ':o:' .. field:sub(2), 4 * number - 4, 4 * number - 1)
    if #ord == 4 then
      local live = 32 * (unpack('<I4', ord)) + 14
      if call('GETRANGE', p .. ':i', live, live + 1) ~= '\0\0' then return end
    end
  end
  call('UNLINK', key)
  if call('EXISTS', m) == 0 then call('UNLINK', m:sub(1, -2) .. 'n') end
end

local function again(m, field, known, frontier, number, noted, digest, bytes)
  if not known then return {'ok', 1, bytes} end
  local old = known:sub(9)
  if number == frontier and old ~= '' and old ~= digest then return {'conflict'} end
  local _, held = unpack('<I4I4', known)
  noted = math.min(noted, frontier)
  if noted > held then call('HSET', m, field, pack('<I4I4', frontier, noted) .. old) end
  return {'ok', 1, bytes}
end

-- What a block is refused with, or nil and the replica's bytes if it was taken for the first time.
-- Each call and each number that is written as text costs as much as ten lines of this.
local function take(key, m, raw)
  local number, noted, sent, live, head, minttl, maxttl, maxdelay, body, size, digest, producer =
    unpack('<I4I4I2I2I2I4I4I4I4I4c8c8', raw)
  local name = key:sub(#m + 2, #m + 17)
  local field = 'p' .. name
  local got = call('HMGET', m, 'h', field)
  if not got[1] then return {'gone'} end
  local role, sealed, told, producers, arrived, bytes, left, held, minexp, maxexp, cursor, picks,
    first, weight, waste = unpack(NUMBERS, got[1])
  local frontier, old_noted = 0, 0
  if got[2] then frontier, old_noted = unpack('<I4I4', got[2]) end
  if number <= frontier then
    return again(m, field, got[2], frontier, number, noted, digest, bytes)
  end
  if sealed == 1 then return {'sealed'} end
  if frontier == 0 and producers >= 48 then return {'producers'} end
  if number ~= frontier + 1 then return {'gap', frontier} end
  local p = m:sub(1, -2)
  if live > 0 then
    if now + minttl < minexp then minexp = now + minttl end
    if now + maxttl > maxexp then maxexp = now + maxttl end
    if maxdelay > 0 then call('ZADD', p .. 'y', now + maxdelay, arrived) end
  end
  -- A producer's blocks come without gaps, so the next ordinal's place is the end.
  call('APPEND', p .. 'o:' .. name, pack('<I4', arrived))
  call('APPEND', p .. 'i', pack(INDEX, producer, number, sent, live, now, minttl, body, head))
  if arrived == 0 then call('ZADD', p:sub(1, -18) .. 'due', now + OPEN_DUE, p:sub(-17, -2)) end
  if frontier == 0 then producers = producers + 1 end
  if noted > number then noted = number end
  if noted < old_noted then noted = old_noted end
  bytes = bytes + size
  call('HSET', m, 'h', pack(NUMBERS, role, sealed, told, producers, arrived + 1, bytes,
    left + live, held, minexp, maxexp, cursor, picks, first, weight + body - 16 * live, waste),
    field, pack('<I4I4', number, noted) .. digest)
  return nil, bytes
end

local sizes, replies, others, seen = {}, {}, false, {}
for i = 2, #ARGV do
  local key, m = KEYS[2 * i - 2], KEYS[2 * i - 1]
  local reply, bytes = refused, 0
  if not refused then
    if not seen[m] then take_noted(m:sub(1, -3), true) end
    seen[m] = true
    reply, bytes = take(key, m, ARGV[i])
  end
  if reply then
    remove(key, m, ARGV[i])
    others = true
  end
  sizes[i - 1], replies[i - 1] = pack('<I8', bytes or 0), reply or false
end
if not others then return table.concat(sizes) .. pack('<I8', now) end
for i, reply in ipairs(replies) do
  replies[i] = reply or {'ok', 0, (unpack('<I8', sizes[i]))}
end
return replies
