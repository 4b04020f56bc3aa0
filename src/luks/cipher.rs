//! `aes-xts-plain64`: AES-256 in XTS mode, the tweak being the number of the 512-byte sector.

use aes::Aes256;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};

/// The name in headers.
pub const NAME: &str = "aes-xts-plain64";
/// Bytes of a key: two AES-256 keys.
pub const KEY_SIZE: usize = 64;
/// Sectors are counted in these units, whatever their size (`iv_large_sectors` is not set).
pub const TWEAK_UNIT: u64 = 512;

const BLOCK: usize = 16;
/// Blocks that are enciphered in one go: those of a 4096-byte sector. The cipher's own parallelism is 8.
const BLOCKS: usize = 256;

type Block = aes::Block;

/// A key that is ready for use.
#[derive(Clone)]
pub struct Sectors {
    data: Aes256,
    tweak: Aes256,
    /// Bytes in a sector: a power of two from 512 to 4096.
    size: usize,
}

impl Sectors {
    pub fn new(key: &[u8; KEY_SIZE], size: usize) -> Sectors {
        assert!(size.is_power_of_two() && (512..=4096).contains(&size), "LUKS2 has no sectors of {size} bytes");
        let (data, tweak) = key.split_at(KEY_SIZE / 2);
        Sectors {
            data: Aes256::new(GenericArray::from_slice(data)),
            tweak: Aes256::new(GenericArray::from_slice(tweak)),
            size,
        }
    }

    /// Encrypts whole sectors in place; `first` is the number of the first, in sectors of this size.
    pub fn encrypt(&self, bytes: &mut [u8], first: u64) {
        self.each(bytes, first, &|blocks| self.data.encrypt_blocks(blocks));
    }

    pub fn decrypt(&self, bytes: &mut [u8], first: u64) {
        self.each(bytes, first, &|blocks| self.data.decrypt_blocks(blocks));
    }

    fn each(&self, bytes: &mut [u8], first: u64, apply: &dyn Fn(&mut [Block])) {
        assert!(bytes.len().is_multiple_of(self.size), "only whole sectors are enciphered");
        let units = self.size as u64 / TWEAK_UNIT;
        let mut tweaks = [0_u128; BLOCKS];
        let mut blocks = [Block::default(); BLOCKS];
        for (index, sector) in bytes.chunks_exact_mut(self.size).enumerate() {
            let count = self.size / BLOCK;
            let mut tweak = self.first_tweak(first.wrapping_add(index as u64).wrapping_mul(units));
            for place in &mut tweaks[..count] {
                *place = tweak;
                tweak = doubled(tweak);
            }
            for ((block, bytes), tweak) in blocks.iter_mut().zip(sector.chunks_exact(BLOCK)).zip(&tweaks) {
                *block = mixed(bytes, *tweak).into();
            }
            apply(&mut blocks[..count]);
            for ((block, bytes), tweak) in blocks.iter().zip(sector.chunks_exact_mut(BLOCK)).zip(&tweaks) {
                bytes.copy_from_slice(&mixed(block, *tweak));
            }
        }
    }

    fn first_tweak(&self, number: u64) -> u128 {
        let mut block = Block::from(u128::from(number).to_le_bytes());
        self.tweak.encrypt_block(&mut block);
        u128::from_le_bytes(block.into())
    }
}

fn mixed(bytes: &[u8], tweak: u128) -> [u8; BLOCK] {
    let bytes: [u8; BLOCK] = bytes.try_into().expect("a block has 16 bytes");
    (u128::from_le_bytes(bytes) ^ tweak).to_le_bytes()
}

/// Times x in GF(2^128).
fn doubled(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127) * 0x87)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IEEE 1619-2007, annex B, vector 10: its data unit of 512 bytes begins with this.
    #[test]
    fn gives_the_standards_ciphertext() {
        let mut key = [0; KEY_SIZE];
        key[..32].copy_from_slice(&hex("2718281828459045235360287471352662497757247093699959574966967627"));
        key[32..].copy_from_slice(&hex("3141592653589793238462643383279502884197169399375105820974944592"));
        let mut bytes: Vec<u8> = (0..512).map(|number| number as u8).collect();
        let plain = bytes.clone();
        let sectors = Sectors::new(&key, 512);
        sectors.encrypt(&mut bytes, 0xff);
        assert_eq!(bytes[..32], hex("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"));
        sectors.decrypt(&mut bytes, 0xff);
        assert_eq!(bytes, plain);
    }

    #[test]
    fn numbers_large_sectors_in_units_of_512_bytes() {
        let key = std::array::from_fn(|at| at as u8);
        let (mut large, mut small) = (vec![7; 8192], vec![7; 512]);
        Sectors::new(&key, 4096).encrypt(&mut large, 5);
        Sectors::new(&key, 512).encrypt(&mut small, 48);
        assert_eq!(large[4096..4608], small);
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
