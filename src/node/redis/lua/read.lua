-- Purpose: a page of the log in the order of arrival (Q2, Q3, Q5).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 ordinal and 3 index to start from; 4 limit; 5 bytes of envelopes
--   at most; 6 client whose messages are left out, or empty; 7 leave out claimed (0 or 1);
--   8 leave out delayed (0 or 1); 9 blocks at most
-- Returns: ok, coverage, blocks, descriptions, runs, next ordinal, next index, at tail (0 or 1) |
--   stranger, held | gone
--   blocks: 32 bytes each: ordinal, producer, block, count, passed, age, entries
-- Atomic: the coverage told is that of the moment in which the page was read.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r then return {'gone'} end
r.marked = call('EXISTS', r.p .. ':x') == 1
local from, index = tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local not_from, skip_claimed, skip_delayed = ARGV[6], ARGV[7] == '1', ARGV[8] == '1'
local max_blocks, delays = tonumber(ARGV[9]), nil
local e, blocks = describe(), {}
local next_ord, next_index = from, index

local function wanted(b, pos)
  local i, state, slot, _, ttl, delay = record(b, pos)
  if state == 1 or b.age >= ttl or (skip_delayed and b.age < delay) then return false end
  if not_from ~= '' and client_of(b, slot) == not_from then return false end
  return not (skip_claimed and holder(r, (mark_of(r, b, i))))
end

-- Whether all that a block holds is wanted, and there is nothing to say of single messages.
local function is_plain(b, i)
  if i.live < b.n or now >= i.arr + i.minttl or next(marks(r, b)) then return false end
  local clients = b.head:sub(25 + 16 * b.n, b.at)
  if not_from ~= '' and clients:find(not_from, 1, true) then return false end
  if not skip_delayed then return true end
  delays = delays or call('EXISTS', r.p .. ':y')
  return delays == 0 or not call('ZSCORE', r.p .. ':y', b.ord)
end

-- Adds what is wanted of a block; where it stopped, if it did.
local function page_block(b, start)
  local first = b.n == b.sent and start + 1 or 1
  if is_plain(b, b.i) and (start == 0 or b.n == b.sent) and first <= b.n then
    local last = math.min(b.n, first + limit - e.count - 1)
    if e.bytes + start_of(b, last + 1) - start_of(b, first) <= max_bytes then
      add_slice(e, b, first, last)
      return e.count == limit and (record(b, last)) + 1 or nil
    end
  end
  for pos = 1, b.n do
    local i, _, _, stop = record(b, pos)
    if i >= start and wanted(b, pos) then
      if e.count > 0 and e.bytes + stop - start_of(b, pos) > max_bytes then return i end
      add_entry(e, r, b, pos)
      if e.count == limit then return i + 1 end
    end
  end
end

walk(r, from, function(ord, i)
  if i.sent == DROPPED then return false end
  local before, stopped = e.count, nil
  if i.live > 0 then
    stopped = page_block(open_indexed(r, i), ord == from and index or 0)
  end
  local passed = stopped or i.sent
  if passed == i.sent then next_ord, next_index = ord + 1, 0
  else next_ord, next_index = ord, passed end
  if passed > 0 or i.sent == 0 then
    blocks[#blocks + 1] = pack('<I4c8I4I2I2I8I4', ord, i.producer, i.block, i.sent, passed,
      math.max(0, now - i.arr), e.count - before)
  end
  max_blocks = max_blocks - 1
  return stopped or max_blocks == 0
end)

local at_tail = 1
walk(r, next_ord, function(_, i)
  if i.sent ~= DROPPED then at_tail = 0 end
  return at_tail == 0
end)
local texts, runs = described(e)
return {'ok', coverage(r), table.concat(blocks), texts, runs, next_ord, next_index, at_tail}
