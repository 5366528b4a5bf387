-- Deletes by a claim on the quick way: all ends. What the claim's mark is on has not ended before.
local claimed, changed, lost_claims, gone, live, held, weight, waste, given = {}, {}, {}, 0

-- The record of a claim that lives and has that rank.
local function quick_record(key, rank)
  local c = claimed[key]
  if c == nil then
    local raw = call('HGET', prefix .. ':c', key)
    c = raw and {raw = raw} or false
    if c then c.rank, c.ttl, c.ends, c.n, c.back = unpack(CLAIM, raw) end
    claimed[key] = c
  end
  return c and c.rank == rank and c.back == 0 and now < c.ends and c
end

-- Where among a block's marks is the one that is on all of these; nil if there is none.
local function quick_mark_on(b, first, last, mark)
  local marks = b.marks
  for place = 1, #marks, MARK_LEN do
    local low, more = marks:byte(place, place + 1)
    if low + more >= first then
      return low <= first and low + more >= last and marks:sub(place + 2, place + 22) == mark
        and place
    end
  end
end

-- Whether what has ended would be cut out of a block, if so many bytes of it go.
local function is_sparse(b, lost)
  if waste + gone <= given / 8 or b.size == lost then return false end
  b.stored = b.stored or call('STRLEN', b.key) - b.at + 16 * b.sent
  return b.stored > 256 and b.stored > 2 * (b.size - lost)
end

local function quick_delete()
  local key, rank, refs = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local c = ARGV[at] == version and ARGV[at + 1] == '1' and quick_record(key, rank)
  if not c then return nil end
  local places, n, mark = {}, 0, '\0' .. key .. rank
  for from = 1, #refs, 14 do
    local producer, number, first, more = unpack('<c8I4BB', refs, from)
    local b, last = quick_named(producer, number), first + more
    if not b or last >= b.sent or b.call == at and first <= b.last then return nil end
    b.call, b.last = at, last
    local place, raw = quick_mark_on(b, first, last, mark), nil
    raw = place and quick_records(b, first, last)
    if not raw then return nil end
    local start = first == 0 and 0 or unpack('<I4', raw, 5)
    local size = unpack('<I4', raw, #raw - 11) - start
    gone = gone + 16 * (more + 1) + size
    if is_sparse(b, b.lost + 16 * (more + 1) + size) then return nil end
    places[#places + 1], n = {b, place, first, last, size, raw}, n + more + 1
  end
  if n == 0 or n >= live then return nil end
  for i = #places, 1, -1 do
    local b, place, first, last, size, raw = spread(places[i])
    local low, more = b.marks:byte(place, place + 1)
    local rest, left = b.marks:sub(place + 2, place + MARK_LEN - 1), b.marks:sub(1, place - 1)
    if low < first then left = left .. string.char(low, first - 1 - low) .. rest end
    if low + more > last then
      left = left .. string.char(last + 1, low + more - last - 1) .. rest
    end
    b.marks = left .. b.marks:sub(place + MARK_LEN)
    b.alive, b.lost = b.alive - (last - first + 1), b.lost + 16 * (last - first + 1) + size
    weight = weight - size
    if not b.ended then b.ended, changed[#changed + 1] = {}, b end
    b.ended[#b.ended + 1] = {first, raw}
  end
  if not c.changed then c.changed, lost_claims[#lost_claims + 1] = true, {key, c} end
  c.n, live, held = c.n - n, live - n, held - n
  return live
end
