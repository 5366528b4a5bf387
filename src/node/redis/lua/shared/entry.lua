-- Messages on their way to a client: one string that describes them, and runs of envelopes that
-- lie side by side, so that a page moves what was asked for and little more.
-- A description: producer, block, index, 1 claimed + 2 starts a run, age, ttl, delay, length of
-- the envelope, times, [claim, rank], length of the client's name, name.
local function describe() return {texts = {}, runs = {}, count = 0, bytes = 0} end

local function close_run(e)
  local b = e.block
  if not b then return end
  local from, to = b.at + e.start, b.at + e.stop
  if from == to then e.runs[#e.runs + 1] = ''
  elseif #b.head >= to then e.runs[#e.runs + 1] = b.head:sub(from + 1, to)
  else e.runs[#e.runs + 1] = call('GETRANGE', b.key, from, to - 1) end
  e.block = nil
end

local function client_of(b, slot)
  if slot == 0 then return '' end
  if not b.clients then
    b.clients = {}
    local at = 24 + 16 * b.n + 1
    local count = b.ext > 0 and b.head:byte(at) or 0
    at = at + 1
    for i = 1, count do
      local len = b.head:byte(at)
      b.clients[i] = b.head:sub(at + 1, at + len)
      at = at + 1 + len
    end
  end
  return b.clients[slot] or ''
end

local function add_entry(e, r, b, pos)
  local index, _, slot, stop, ttl, delay = record(b, pos)
  local start = start_of(b, pos)
  local m = mark_of(r, b, index)
  local held = m and holder(r, m)
  local flags = held and 1 or 0
  if e.block ~= b or e.stop ~= start then
    close_run(e)
    e.block, e.start, flags = b, start, flags + 2
  end
  e.stop = stop
  local client = client_of(b, slot)
  e.count, e.bytes = e.count + 1, e.bytes + stop - start
  e.texts[#e.texts + 1] = pack('<c8I4BBI8I4I4I4I4', b.producer, b.number, index, flags, b.age, ttl,
    delay, stop - start, m and m.times or 0)
    .. (held and (m.claim .. m.rank) or '') .. string.char(#client) .. client
end

-- Messages of a block that share what there is to say beyond their records: a head with the
-- records and the envelopes go out as they are. The description is that of one message, with 4
-- in its flags; how many records the head has before the first instead of its ttl, and how many
-- messages instead of its delay.
local function add_slice(e, b, first, last, m)
  close_run(e)
  local from, to = start_of(b, first), start_of(b, last + 1)
  local count, runs = last - first + 1, #e.runs
  local low = math.max(first - 1, 1)
  if last - low + 1 == b.n then e.runs[runs + 1] = b.head:sub(1, b.at)
  else
    e.runs[runs + 1] = b.head:sub(1, 2) .. pack('<I2', last - low + 1) .. b.head:sub(5, 24)
      .. b.head:sub(9 + 16 * low, 24 + 16 * last) .. b.head:sub(25 + 16 * b.n, b.at)
  end
  if from == to then e.runs[runs + 2] = ''
  elseif #b.head >= b.at + to then e.runs[runs + 2] = b.head:sub(b.at + from + 1, b.at + to)
  else e.runs[runs + 2] = call('GETRANGE', b.key, b.at + from, b.at + to - 1) end
  e.texts[#e.texts + 1] = pack('<c8I4BBI8I4I4I4I4', b.producer, b.number, 0, m and 5 or 4, b.age,
    first - low, count, to - from, m and m.times or 0) .. (m and m.claim .. m.rank or '') .. '\0'
  e.count, e.bytes = e.count + count, e.bytes + to - from
end

-- Messages whose records lie side by side, which a live claim has just been given.
local function add_claimed(e, r, b, pos, last)
  if next(b.tt) then
    for p = pos, last do add_entry(e, r, b, p) end
    return
  end
  while pos <= last do
    local index = (record(b, pos))
    local m, to = mark_of(r, b, index)
    to = math.min(last, pos + to - index)
    add_slice(e, b, pos, to, m)
    pos = to + 1
  end
end

-- What a reply holds: the descriptions, the runs.
local function described(e)
  close_run(e)
  return table.concat(e.texts), e.runs
end
