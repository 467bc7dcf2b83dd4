//! Known answers for the formats, computed by an independent program (Python's `hmac`, `hashlib` and
//! `cryptography`) from the descriptions in the modules' documentation. They hold the formats still: a
//! change that breaks one of them loses people's secrets.

use data_encoding::HEXLOWER;

use crate::crypto::Key;
use crate::slots::{Ring, SlotKey};

/// The row of `plain text of the row` for (default, value, `OPENAI_API_KEY`, 3), salt 80…9f.
pub(crate) const ROW: &str = "\
     010100000001808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f21d149d2b82d7a829f40\
     53fab57b7c2ee5387751ede286252ef98d63a207200a99db46781435d1c7afc25d5d72a103095a89f48c618b9698c9f2\
     5c880b17af2e4dd469fae2";
/// A slot header with one file slot, ring key 22…22, salts 80…9f and 9f…80.
pub(crate) const SLOTS: &str = "\
     01404142434445464748494a4b4c4d4e4f0101505152535455565758595a5b5c5d5e5f00000070808182838485868788\
     898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa3a6753fb687e03ae6b37a78e6b7370062fd76ee70b7eda56d\
     46ff558ad77d78306169771f1663f85b8054ec5176552c098512c2476bcd63c91cab3971027f777ca128bb5c0ac68b0a\
     2052b507884a73000000779f9e9d9c9b9a999897969594939291908f8e8d8c8b8a8988878685848382818041763460b7\
     ed0015e6f6d7f2deecb0f69c569de01421b7a2d79f20d3badc9158335b5ea938141730701c7adc6fe3c8dadedd9678ae\
     6abc6b7e3217dea8cbbeb4da08e975607e5da66a256c3e4b431f88c829a3354c25f662708c8955862c844fbf910aa0fe\
     b7cde985a4555de70f3c75edf0870d398b63";
/// The same with a slot of a kind from the future in front.
pub(crate) const SLOTS_WITH_UNKNOWN_KIND: &str = "\
     01404142434445464748494a4b4c4d4e4f020977777777777777777777777777777777000361626300027a7a01505152\
     535455565758595a5b5c5d5e5f00000070808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e\
     9fa3a6753fb687e03ae6b37a78e6b7370062fd76ee70b7eda56d46ff558ad77d78306169771f1663f85b8054ec517655\
     2c098512c2476bcd63c91cab3971027f777ca128bb5c0ac68b0a2052b507884a73000000779f9e9d9c9b9a9998979695\
     94939291908f8e8d8c8b8a8988878685848382818041763460b7ed0015e6f6d7f2deecb0f69c569de01421b7a2d79f20\
     d3badc9158335b5ea938141730701c7adc6fe3c8dadedd9678ae6abc6b7e3217dea8cbbeb4da08e975607e5da66a256c\
     3e4b431f88c829a3354c25f66f34bf5cde7bad86261f708beef1a09bf77e7049457459b598693aa7d2a3abbd";
/// The key file of [`slot`].
pub(crate) const KEY_FILE: &str = "\
     4f5243484b45594601404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f11111111111111\
     11111111111111111111111111111111111111111111111111d716ae0a3bc189907ecec424c2b198ce8dcddc1c71d681\
     110e3892ff61034a9e";
/// The head (5, 01…01, 9, 02…02, 03…03).
pub(crate) const HEAD: &str = "\
     010000000100000000000000050101010101010101010101010101010101010101010101010101010101010101000000\
     000000000902020202020202020202020202020202020202020202020202020202020202020303030303030303030303\
     030303030303030303030303030303030303030303961fa5e49bb04ee9902a918b0060ea4cf42b7c43f29a72470430ba\
     56ffc73aba";
/// The first audit record: `A` removed at version 2 in `default`, at 1700000000.
pub(crate) const AUDIT: &str = "\
     010000000100000000000000000000000000000000000000000000000000000000000000000000000000000000010100\
     000001808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f04bf69b70fc1bf9b4f1210d727\
     633f6b72e69ae09c46bd49098d52a972e9aeade21ab9c2ba613fcdd189ff1ed001c053490b965ff2ff0990abcb31cd45\
     7534d4d36413a8f21ae3fb050d46267116210d16cd561d5cee67d00e5c151d231176550a7d68c396d951da4cb73102a2\
     dfb4c36b49f8915a0659af706d11fb2b3252086b193f20cc840994899cad2b7f834bbb13754ee5ca77ed0b9cb2b9c742\
     4367d3cc4acaa85171a37e922326cadd7585";
/// Its chain value.
pub(crate) const AUDIT_LINK: &str = "\
     b7d477022788d7c7a4c2a1164d753aee9adbdecbc53bb3157404030b0723953b";
/// The root over `k` → `header` and `m\\x01` → `meta`.
pub(crate) const ROOT: &str = "\
     bf03b75ef562a19627d120e544e11cd502d137fe0261b042c9732d1fb5f5aa7b";
/// The key of the value row of `OPENAI_API_KEY` in `default`.
pub(crate) const ROW_KEY: &str = "\
     76c3a12a0e0846992a33993371ff6ba82302fa8e08fd64ad1ade0fd5d308bb181efbc2c4e3ffa8b68637c2d9f3e4809c\
     67";

/// The anchor's slot (5, 04…04).
pub(crate) const ANCHOR: &str = "\
     010000000100000000000000050404040404040404040404040404040404040404040404040404040404040404243e45\
     7d3b328cd2f10ac3655710f6981c7514ebf78ba141ed1a6205f4c05157";

/// The key of "correct horse" by argon2id 1.3: salt "0123456789abcdef", 8 MiB, one pass, two lanes.
pub(crate) const PASSPHRASE_KEY: &str = "47ed52c11ebe033ac0933d74af5082dbf363f76736b80e815668fc6b371491f9";

/// Bytes from hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    HEXLOWER.decode(digits.as_bytes()).unwrap()
}

/// The vault's id: 40…4f.
pub(crate) const VAULT: [u8; 16] = *b"@ABCDEFGHIJKLMNO";

/// The slot 50…5f with the key 11…11.
pub(crate) fn slot() -> SlotKey {
    SlotKey { vault: VAULT, slot: *b"PQRSTUVWXYZ[\\]^_", key: Key::from_slice(&[0x11; 32]).unwrap() }
}

/// A ring whose first term has the root key 00…1f.
pub(crate) fn ring() -> Ring {
    let root: Vec<u8> = (0..32).collect();
    Ring::of_first_term(Key::from_slice(&root).unwrap())
}
