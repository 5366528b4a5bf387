-- Compares byte strings of one length as big-endian numbers. Lua's own `<` goes by locale, and
-- its numbers lose digits above 2^53.
local function below(a, b)
  if a == b then return false end
  for i = 1, #a do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return false
end

-- An id as key names have it.
local function hex(producer) return ('%08x%08x'):format(unpack('>I4I4', producer)) end

-- References to messages travel as 14 bytes for each run of neighbours: producer, block, first
-- index, how many more.
local function each_run(raw, visit)
  for at = 1, #raw, 14 do
    local producer, number, index, more = unpack('<c8I4BB', raw, at)
    visit(producer, number, index, index + more)
  end
end
