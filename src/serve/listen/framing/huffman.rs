//! HPACK's Huffman code (RFC 7541, appendix B), as far as reading a string needs it. The code is canonical: the lengths say
//! all of it.

pub(super) const SYMBOLS: usize = 257;

/// Not a byte: the code whose first bits fill up a string's last byte.
const END: u16 = 256;

const LENGTH_MAX: usize = 30;

/// Of each byte's code, in bits; the last is the end's.
#[rustfmt::skip]
pub(super) const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6,
    6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6,
    6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22,
    25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The symbols in the order of their codes, and for each length the first code and the place of its symbol.
struct Codes {
    symbols: [u16; SYMBOLS],
    first_code: [u32; LENGTH_MAX + 1],
    first_symbol: [usize; LENGTH_MAX + 2],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes = Codes { symbols: [0; SYMBOLS], first_code: [0; LENGTH_MAX + 1], first_symbol: [0; LENGTH_MAX + 2] };
    let (mut length, mut code, mut permit) = (1, 0, 0);
    while length <= LENGTH_MAX {
        code <<= 1;
        codes.first_code[length] = code;
        codes.first_symbol[length] = permit;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[permit] = symbol as u16;
                permit += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    codes.first_symbol[LENGTH_MAX + 1] = permit;
    codes
}

/// The bytes of a coded string; `None` where it is none.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut code, mut length) = (0u32, 0);
    for byte in coded {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            if length > LENGTH_MAX {
                return None;
            }
            let nth = code.wrapping_sub(CODES.first_code[length]) as usize;
            let of_length = CODES.first_symbol[length + 1] - CODES.first_symbol[length];
            if code >= CODES.first_code[length] && nth < of_length {
                match CODES.symbols[CODES.first_symbol[length] + nth] {
                    END => return None,
                    symbol => text.push(symbol as u8),
                }
                (code, length) = (0, 0);
            }
        }
    }
    // What is left over is less than a byte, and all ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}
