//! What the synthetic world is furnished with: places, campaigns, channels, goods and their codes.

use super::dice::{Dice, mixed};

/// Districts and counties of GB/T 2260, over most provinces.
pub(super) const REGIONS: &[&u32] = &[
    &110_101, &110_105, &110_108, &120_101, &120_103, &130_102, &130_203, &140_105, &150_102, &210_102, &210_202, &220_102, &230_102,
    &310_101, &310_104, &310_115, &320_102, &320_505, &320_583, &330_102, &330_106, &330_203, &340_102, &340_202, &350_102, &350_203,
    &360_102, &370_102, &370_202, &370_602, &410_102, &410_302, &420_102, &420_106, &430_102, &430_202, &440_103, &440_106, &440_303,
    &440_305, &440_604, &441_302, &450_103, &460_105, &500_103, &500_112, &510_104, &510_107, &510_703, &520_103, &520_382, &530_102,
    &540_102, &610_102, &610_113, &620_102, &630_102, &640_104, &650_102, &652_301,
];

pub(super) const CAMPAIGNS: &[&str] = &[
    "",
    "",
    "",
    "open-and-win",
    "summer-feast",
    "mid-autumn",
    "new-year-red-packet",
    "points-double",
    "friends-first-cup",
    "harvest",
    "store-week",
    "anniversary",
    "双十一",
    "welcome",
];

/// Where a scan or an order comes from by itself.
pub(super) const CHANNELS: &[&str] = &[
    "store",
    "store",
    "store",
    "feed",
    "feed",
    "search",
    "official-account",
    "weibo:acct1",
    "weibo:acct2",
    "weibo:acct7",
    "douyin:acct3",
    "douyin:acct5",
    "xiaohongshu:acct2",
    "mini-program",
    "",
];

/// How a share travels.
pub(super) const SHARE_CHANNELS: &[&str] = &["friend", "group", "moments", "weibo", "group"];

/// Goods of a brand.
const SKUS: u64 = 40;
const CODES_PER_BATCH: u64 = 2_000;
/// Codes below this number are counterfeited ones: copied onto many items.
pub(super) const COUNTERFEIT_CODES: u64 = 6;

/// What an item of a brand carries.
pub(super) struct Item {
    /// A Digital Link, or for one in ten an opaque text.
    pub code: String,
    /// As a producer would send it: empty beside a Digital Link.
    pub sku: String,
    pub batch: String,
}

/// The item with a code's number. The same for ever, without memory.
pub(super) fn item(brand: &str, salt: u64, number: u64) -> Item {
    let sku = mixed(salt ^ number) % SKUS;
    let batch = format!("L{:05}", number / CODES_PER_BATCH);
    let serial = mixed(salt.wrapping_add(number));
    if number % 10 == 9 {
        return Item { code: format!("ITEM{serial:016X}"), sku: format!("{brand}-{sku:02}"), batch };
    }
    // A forger may get the check digit wrong.
    let is_misprinted = number < COUNTERFEIT_CODES && number % 2 == 1;
    let gtin = gtin(salt, sku, is_misprinted);
    Item { code: format!("https://qr.{brand}.example/01/{gtin}/10/{batch}/21/{serial:016x}"), sku: String::new(), batch: String::new() }
}

/// The sku under which a purchase or a share names a good.
pub(super) fn sku(salt: u64, dice: &mut Dice) -> String {
    gtin(salt, dice.popular_below(SKUS), false)
}

/// A GTIN-14 of a Chinese prefix.
fn gtin(salt: u64, sku: u64, is_misprinted: bool) -> String {
    let company = mixed(salt) % 10_000;
    let digits = format!("0690{company:04}{sku:05}");
    let sum: u32 = digits.bytes().zip([3, 1].into_iter().cycle()).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    let check = (10 - sum % 10) % 10;
    let printed = if is_misprinted { (check + 1) % 10 } else { check };
    format!("{digits}{printed}")
}

#[cfg(test)]
mod tests {
    use super::gtin;

    /// GS1's own rule: with the check digit the weighted sum is a multiple of ten.
    #[test]
    fn check_digits_are_right_unless_misprinted() {
        for sku in 0..40 {
            for is_misprinted in [false, true] {
                let text = gtin(7, sku, is_misprinted);
                let sum: u32 = text.bytes().zip([3, 1].into_iter().cycle()).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
                assert_eq!((text.len(), sum.is_multiple_of(10)), (14, !is_misprinted), "{text}");
            }
        }
    }
}
