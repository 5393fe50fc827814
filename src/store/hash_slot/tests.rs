//! Slots as `CLUSTER KEYSLOT` of Redis 7 answers them.

use super::*;

#[test]
fn a_key_lies_in_the_slot_that_redis_says() {
    // The check value of CRC-16/XMODEM, and the example of Redis Cluster's specification.
    assert_eq!(crc16(b"123456789"), 0x31c3);
    for (key, slot) in [
        ("", 0),
        ("foo", 12_182),
        ("bar", 5_061),
        ("hello", 866),
        ("somekey", 11_058),
        ("foo{hash_tag}", 2_515),
        ("bar{hash_tag}", 2_515),
        ("hash_tag", 2_515),
        ("{user1000}.following", 3_443),
        ("{user1000}.followers", 3_443),
        ("user1000", 3_443),
        // The first brace counts, with what closes it first; an empty part does not.
        ("foo{}{bar}", 8_363),
        ("foo{{bar}}zap", 4_015),
        ("{bar", 4_015),
        ("foo{bar}{zap}", 5_061),
    ] {
        assert_eq!(of(key.as_bytes()), slot, "{key}");
    }
    assert_eq!(of(&[0xff, 0x00, b'{', 0xfe, b'}']), of(&[0xfe]));
}
