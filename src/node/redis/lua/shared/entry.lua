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
  local m = marks(r, b)[index]
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

-- Messages of a block of which there is nothing to say but what its head says: the head and the
-- envelopes go out as they are. The description is that of one message, with 4 in its flags; the
-- place of the first one instead of its ttl, and how many instead of its delay.
local function add_slice(e, b, first, last)
  close_run(e)
  local from, to = start_of(b, first), start_of(b, last + 1)
  local count, runs = last - first + 1, #e.runs
  e.runs[runs + 1] = b.head:sub(1, b.at)
  if from == to then e.runs[runs + 2] = ''
  elseif #b.head >= b.at + to then e.runs[runs + 2] = b.head:sub(b.at + from + 1, b.at + to)
  else e.runs[runs + 2] = call('GETRANGE', b.key, b.at + from, b.at + to - 1) end
  e.texts[#e.texts + 1] = pack('<c8I4BBI8I4I4I4I4B', b.producer, b.number, 0, 4, b.age, first - 1,
    count, to - from, 0, 0)
  e.count, e.bytes = e.count + count, e.bytes + to - from
end

-- What a reply holds: the descriptions, the runs.
local function described(e)
  close_run(e)
  return table.concat(e.texts), e.runs
end
