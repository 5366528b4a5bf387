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

-- References to messages travel as 13 bytes each: producer, block, index.
local function each_ref(raw, visit)
  for at = 1, #raw, 13 do
    local producer, number, index = unpack('<c8I4B', raw, at)
    visit(producer, number, index)
  end
end
