use super::*;
use crate::golden::hex;

/// RFC 5869, appendix A: secret, salt, info, output.
const HKDF: [(&str, &str, &str, &str); 3] = [
    (
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f\
         303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
        "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f\
         909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf\
         e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
         da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
];

/// The GCM specification's AES-256 cases 13 to 16: key, nonce, associated data, text, ciphertext and tag.
const GCM: [(&str, &str, &str, &str, &str); 4] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "",
        "530f8afbc74536b9a963b4f1c4cb738b",
    ),
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    ),
    (
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
         b16aedf5aa0de657ba637b391aafd255",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
         c5f61e6393ba7a0abcc9f662898015adb094dac5d93471bdec1a502270e3cc6c",
    ),
    (
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
         b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
         c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
    ),
];

#[test]
fn hkdf_known_answers() {
    for (secret, salt, info, expected) in HKDF {
        let expected = hex(expected);
        let mut out = vec![0; expected.len()];
        hkdf_sha256(&hex(salt), &hex(secret), &[&hex(info)], &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn aes_256_gcm_known_answers_and_their_alterations() {
    for (key, nonce, aad, text, expected) in GCM {
        let cipher = aes_256_gcm(&Key::from_slice(&hex(key)).unwrap());
        let nonce = || aead::Nonce::try_assume_unique_for_key(&hex(nonce)).unwrap();
        let expected = hex(expected);
        let mut sealed = hex(text);
        cipher.seal_in_place_append_tag(nonce(), aead::Aad::from(hex(aad)), &mut sealed).unwrap();
        assert_eq!(sealed, expected);
        let open = |mut sealed: Vec<u8>| {
            let opened = cipher.open_in_place(nonce(), aead::Aad::from(hex(aad)), &mut sealed);
            opened.map(|text| text.to_vec()).ok()
        };
        assert_eq!(open(expected.clone()), Some(hex(text)));
        for bit in 0..expected.len() * 8 {
            let mut altered = expected.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(altered), None, "bit {bit}");
        }
    }
}

#[test]
fn labels_and_vaults_have_keys_of_their_own() {
    use std::collections::BTreeSet;
    let root = Key::from_slice(&[1; 32]).unwrap();
    let labels = [
        Label::Anchor,
        Label::Index,
        Label::Head,
        Label::Audit,
        Label::Fingerprint,
        Label::Slots,
        Label::KeyFile,
    ];
    let keys: BTreeSet<Vec<u8>> = labels
        .iter()
        .flat_map(|label| [[0; 16], [1; 16]].map(|vault| derive(&root, &vault, *label).bytes().to_vec()))
        .collect();
    assert_eq!(keys.len(), labels.len() * 2);
}

#[test]
fn sealing_twice_shares_nothing() {
    let root = Key::random().unwrap();
    let (one, two) = (seal(&root, b"place", b"text").unwrap(), seal(&root, b"place", b"text").unwrap());
    assert_eq!(one.len(), 4 + SEAL_OVERHEAD);
    assert_ne!(one[..32], two[..32]);
    assert_ne!(one[32..36], two[32..36]);
    assert_eq!(open(&root, b"place", &one).unwrap().as_slice(), b"text");
}

#[test]
fn what_differs_is_told_by_the_commitment_before_anything_is_decrypted() {
    let root = Key::random().unwrap();
    let sealed = seal(&root, b"place", b"text").unwrap();
    let other = Key::random().unwrap();
    assert_eq!(open(&other, b"place", &sealed).unwrap_err(), OpenError::Commitment);
    assert_eq!(open(&root, b"elsewhere", &sealed).unwrap_err(), OpenError::Commitment);
    for position in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[position] ^= 0x40;
        let expected = match position {
            32..52 => OpenError::Tag,
            _ => OpenError::Commitment,
        };
        assert_eq!(open(&root, b"place", &altered).unwrap_err(), expected, "byte {position}");
    }
    for length in 0..sealed.len() {
        let expected = if length < SEAL_OVERHEAD { OpenError::Short } else { OpenError::Commitment };
        assert_eq!(open(&root, b"place", &sealed[..length]).unwrap_err(), expected, "length {length}");
    }
}

/// AES-GCM by itself does not commit to its key: with the authentication key H known (it follows from the
/// key), a text with one free block can be given a tag that two keys accept. Here that is done for the
/// very keys that two roots derive, and the commitment still opens it under one root at most.
#[test]
fn a_text_made_for_two_keys_opens_under_one() {
    let (one, two) = (Key::from_slice(&[1; 32]).unwrap(), Key::from_slice(&[2; 32]).unwrap());
    let salt = [3; SALT_LEN];
    let (key_one, commitment_one) = text_keys(&one, &salt, b"");
    let (key_two, commitment_two) = text_keys(&two, &salt, b"");
    let (ciphertext, tag) = two_key_text(&key_one, &key_two);

    // Both keys accept it, in AES-GCM alone.
    for key in [&key_one, &key_two] {
        let mut text = [ciphertext.as_slice(), &tag].concat();
        assert!(aes_256_gcm(key).open_in_place(zero_nonce(), aead::Aad::empty(), &mut text).is_ok());
    }
    // With either commitment, exactly one root opens it.
    for (commitment, opens) in [(commitment_one, [true, false]), (commitment_two, [false, true])] {
        let sealed = [salt.as_slice(), &ciphertext, &tag, &commitment].concat();
        assert_eq!([&one, &two].map(|root| open(root, b"", &sealed).is_ok()), opens);
    }
}

/// One block of ciphertext, and the tag that both keys give it under the zero nonce without associated data.
///
/// A tag is C·H² ⊕ L·H ⊕ E(J) with the block C, the length block L, and E(J) a mask that depends on the
/// key. Equating the two keys' tags gives C = (L·(H₁⊕H₂) ⊕ E₁ ⊕ E₂) / (H₁²⊕H₂²).
fn two_key_text(one: &Key, two: &Key) -> ([u8; 16], [u8; 16]) {
    let lengths: u128 = 16 * 8;
    let tag_of = |key: &Key, text: [u8; 16]| {
        // Choosing the text so that the ciphertext is `text` needs the key stream: seal zeros first.
        let mut stream = [0; 16];
        let _ = aes_256_gcm(key)
            .seal_in_place_separate_tag(zero_nonce(), aead::Aad::empty(), &mut stream)
            .unwrap();
        let mut block: [u8; 16] = std::array::from_fn(|at| stream[at] ^ text[at]);
        let tag = aes_256_gcm(key)
            .seal_in_place_separate_tag(zero_nonce(), aead::Aad::empty(), &mut block)
            .unwrap();
        assert_eq!(block, text);
        u128::from_be_bytes(tag.as_ref().try_into().unwrap())
    };
    // H and E(J) of a key, from tags of chosen ciphertexts: without text the tag is E(J) alone (the length
    // block is zero), and a ciphertext of zeros leaves L·H ⊕ E(J).
    let hash_key = |key: &Key| {
        let mut nothing = [];
        let mask = aes_256_gcm(key)
            .seal_in_place_separate_tag(zero_nonce(), aead::Aad::empty(), &mut nothing)
            .unwrap();
        let mask = u128::from_be_bytes(mask.as_ref().try_into().unwrap());
        let h = gf_mul(tag_of(key, [0; 16]) ^ mask, gf_invert(lengths));
        (h, mask)
    };
    let ((h1, e1), (h2, e2)) = (hash_key(one), hash_key(two));
    let numerator = gf_mul(lengths, h1 ^ h2) ^ e1 ^ e2;
    let denominator = gf_mul(h1, h1) ^ gf_mul(h2, h2);
    let block = gf_mul(numerator, gf_invert(denominator)).to_be_bytes();
    let (tag_one, tag_two) = (tag_of(one, block), tag_of(two, block));
    assert_eq!(tag_one, tag_two);
    (block, tag_one.to_be_bytes())
}

/// Multiplication in GCM's field (NIST SP 800-38D, section 6.3); the leftmost bit is the lowest power.
fn gf_mul(x: u128, y: u128) -> u128 {
    let mut product = 0;
    let mut power = y;
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= power;
        }
        let carry = power & 1 == 1;
        power >>= 1;
        if carry {
            power ^= 0xe1 << 120;
        }
    }
    product
}

/// x to the power of 2¹²⁸ − 2.
fn gf_invert(x: u128) -> u128 {
    let one = 1 << 127;
    let (mut result, mut square) = (one, x);
    for _ in 1..128 {
        square = gf_mul(square, square);
        result = gf_mul(result, square);
    }
    result
}
