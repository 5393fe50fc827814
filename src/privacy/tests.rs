use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

#[test]
fn a_hashed_value_is_what_openssl_makes_of_it() {
    let privacy = Privacy::new(["user".into()], SECRET).expect("long enough");
    // printf %s alice | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    assert_eq!(privacy.shown("user", "alice"), "~433deb45467e4e53");
    assert_eq!(privacy.shown("path", "/login"), "/login");
    assert_eq!(Privacy::default().shown("user", "alice"), "alice");
}

#[test]
fn a_short_secret_is_refused_and_a_line_end_is_no_part_of_it() {
    let with_end = [SECRET, b"\n"].concat();
    let privacy = Privacy::new(["user".into()], &with_end).expect("long enough");
    let without = Privacy::new(["user".into()], SECRET).expect("long enough");
    assert_eq!(privacy.shown("user", "alice"), without.shown("user", "alice"));
    assert_eq!(Privacy::new([], &with_end[1..]).map(drop), Err(ShortSecret(31)));
}

#[test]
fn the_secret_is_not_in_its_debug_form() {
    let privacy = Privacy::new(["user".into()], SECRET).expect("long enough");
    assert_eq!(format!("{privacy:?}"), r#"Privacy(Some({"user"}))"#);
}
