-- Picks on the quick way: what comes next on the first replica, if nothing there was put back, is
-- delayed, or has ended as a claim, and no other replica has claims.
local arrived, picks, cursor

-- Blocks from the cursor on, with what is free in them; nil if there is something special.
local function quick_places(limit, max_bytes, ends)
  local ord, index, places, bytes = math.floor(cursor / 256), cursor % 256, {}, 0
  while limit > 0 and ord < arrived do
    local b = quick_block(ord)
    if not b then return nil end
    if b.alive > 0 and index < b.sent then
      bytes = bytes + b.size
      if bytes > max_bytes or b.arr + b.minttl < ends then return nil end
      local last = math.min(index + limit, b.sent) - 1
      local place = quick_free(b, index, last)
      if not place then return nil end
      places[#places + 1], limit = {b, place, index, last - index}, limit - (last - index + 1)
      index = last + 1
    end
    if limit > 0 then ord, index = ord + 1, 0 end
  end
  return places, ord * 256 + index
end

-- Where messages are, for the client to fetch them: a script is slow at moving bytes. Of each run
-- producer, block, first index, how many more, age, length of the block's head, where its envelopes
-- start and stop behind that; and the bytes of all. Nil if something was cut out of a block.
local function quick_slices(places)
  local slices, bytes = {}, 0
  for i, place in ipairs(places) do
    local b, _, first, more = spread(place)
    local raw = quick_records(b, first, first + more)
    if not raw then return nil end
    local start, stop = first == 0 and 0 or unpack('<I4', raw, 5), unpack('<I4', raw, #raw - 11)
    slices[i] = pack('<c8I4BBI8I4I4I4', b.producer, b.number, first, more, math.max(0, now - b.arr),
      b.at, start, stop)
    place[5], place[6], bytes = start, stop, bytes + stop - start + b.at
  end
  return table.concat(slices), bytes
end

-- What the client would fetch, in its order, if that is less than another round trip costs.
local function quick_here(packed, places)
  local parts = {'here', packed}
  for _, place in ipairs(places) do
    local b, n = place[1], #parts
    parts[n + 1] = call('GETRANGE', b.key, text(b.at + place[5]), text(b.at + place[6] - 1))
    parts[n + 2] = call('GETRANGE', b.key, '0', text(b.at - 1))
  end
  return parts
end

local function quick_pick()
  local key, ttl = ARGV[at + 1], tonumber(ARGV[at + 2])
  local limit, max_bytes = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  if ARGV[at] ~= version or fresh[key] or call('HGET', prefix .. ':c', key) then return nil end
  local places, passed = quick_places(limit, max_bytes, now + ttl)
  if not places or #places == 0 then return nil end
  local slices, bytes = quick_slices(places)
  if not slices then return nil end
  cursor, picks = passed, picks + 1
  local rank = version .. pack('>I4', picks)
  quick_claim(key, rank, ttl, now + ttl, places)
  return bytes > 4096 and rank .. slices or quick_here(rank .. slices, places)
end

local special = {prefix .. ':a', prefix .. ':w', prefix .. ':y'}
for which = 3, #KEYS do special[#special + 1] = KEYS[which] .. ':c' end
if held_numbers and call('EXISTS', spread(special)) == 0
  and #call('ZRANGEBYSCORE', prefix .. ':d', '-inf', now, 'LIMIT', 0, 1) == 0 then
  cursor, picks = unpack('<I8I4', held_numbers, 37)
  arrived = unpack('<I4', held_numbers, 5)
  quick_all(quick_pick, 6)
  if added > 0 then
    call('HSET', prefix .. ':m', 'h', quick_save() .. held_numbers:sub(25, 36)
      .. pack('<I8I4', cursor, picks) .. held_numbers:sub(49))
  end
end
if at > #ARGV then return replies end
