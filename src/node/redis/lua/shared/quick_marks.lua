-- Marking on the quick way.
local fresh, marked, records, ends_of, added = {}, {}, {}, {}, 0

-- Where among a block's marks those of free messages belong; nil if one of them has a mark, of
-- whatever claim, or has ended.
local function quick_free(b, first, last)
  local marks, place = b.marks, 1
  while place <= #marks do
    local low, more = marks:byte(place, place + 1)
    if low > last then break end
    if low + more >= first then return nil end
    place = place + MARK_LEN
  end
  if b.alive < b.sent then
    local raw = quick_records(b, first, last)
    if not raw then return nil end
    local n = #raw / 16
    local states = {unpack('<' .. ('xc1xxxxxxxxxxxxxx'):rep(n), raw)}
    if table.concat(states, '', first > 0 and 2 or 1, n):find('\1', 1, true) then return nil end
  end
  return place
end

-- Gives a claim that is not known here its messages: block, place of the mark, first index, how
-- many more; by rising index within a block.
local function quick_claim(key, rank, ttl, ends, places)
  local refs, n = {}, 0
  for i = #places, 1, -1 do
    local b, place, first, more = spread(places[i])
    local mark = pack(MARK, first, more, 0, key, rank, 1)
    b.marks = b.marks:sub(1, place - 1) .. mark .. b.marks:sub(place)
    if not b.changed then b.changed, marked[#marked + 1] = true, b end
    refs[i], n = pack(REF, b.ord, first, more), n + more + 1
  end
  local last = #records
  records[last + 1] = key
  records[last + 2] = pack(CLAIM, rank, ttl, ends, n, 0) .. table.concat(refs)
  ends_of[last + 1], ends_of[last + 2] = text(ends), key
  fresh[key], added = true, added + n
end

-- Writes it down, but of the replica's numbers only tells the first ones, up to how many are held.
local function quick_save()
  local fields = {}
  for i, b in ipairs(marked) do fields[2 * i - 1], fields[2 * i] = b.name, b.marks end
  call('HSET', prefix .. ':x', spread(fields))
  call('HSET', prefix .. ':c', spread(records))
  call('ZADD', prefix .. ':d', spread(ends_of))
  return held_numbers:sub(1, 20) .. pack('<I4', unpack('<I4', held_numbers, 21) + added)
end
