-- The numbers of a replica, kept in one packed field `h` of the hash `P:m`; the manifest's
-- version in the field `v`, eight bytes, big-endian.
-- role: 0 appending, 1 joining. told: the end is known. first: no block below it has anything
-- left. cursor: offset below which picks have been. held: messages of claims that have not been
-- put back. minexp: no message expires earlier. maxexp: none ever had a later expiry. weight: bytes
-- of the live messages' envelopes. waste: bytes of ended messages in stored blocks, with their
-- records. 62 bytes in all: fields above 64 would cost a hash of its own.
local NUMBERS = '<BBBBI4I8I4I4I6I6I8I4I4I6I4'
-- One that takes appends is due so long after its first one.
local OPEN_DUE = 86400000
-- The index `P:i` has such a record for each ordinal, see `block.lua`.
local INDEX = '<c8I4I2I2I6I4I4I2'
-- What a journal `P:n` begins with.
local EMPTY = '.'
-- Marks, records of claims, and their members, see `claim.lua`.
local MARK, MARK_LEN = '<BBBc8c12I4', 27
local CLAIM, CLAIM_LEN, REF, REF_LEN = '<c12I4I8I4B', 29, '<I4BB', 6
