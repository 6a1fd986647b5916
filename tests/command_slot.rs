//! Hash slots, held against `CLUSTER KEYSLOT`.

mod command_support;

use command_support::{Reply, Server};
use nearhit::command::Slot;

#[test]
fn the_slot_of_any_key_is_what_the_server_says() {
    let server = Server::start(&["--cluster-enabled", "yes"]);
    let mut connection = server.connect();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..5_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let alphabet = b"{}{}ab\0\xff\r\n0";
        let len = random % 12;
        let letter = |index: u64| alphabet[usize::try_from((random >> (5 * index + 4)) % 11).expect("below 11")];
        let key: Vec<u8> = (0..len).map(letter).collect();
        let expected = connection.call(&[&b"CLUSTER"[..], b"KEYSLOT", &key]);
        assert_eq!(
            Reply::Integer(Slot::of(&key).get().into()),
            expected,
            "{}",
            key.escape_ascii()
        );
    }
}
