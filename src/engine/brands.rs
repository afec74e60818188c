//! Brands as small numbers, with their time zones. A brand with a customer stays for ever, so these are never dropped.

use hashbrown::HashMap;

use crate::model::{Calendar, TimeZone};

/// So many brands are compared sooner than hashed.
const FEW: usize = 4;

/// Number of a brand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BrandId(u32);

impl BrandId {
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
struct Brand {
    name: Box<str>,
    zone: TimeZone,
}

#[derive(Debug)]
pub(super) struct Brands {
    calendar: Calendar,
    brands: Vec<Brand>,
    numbers: HashMap<Box<str>, BrandId, foldhash::quality::FixedState>,
}

impl Brands {
    pub(super) fn new(calendar: Calendar) -> Self {
        Brands { calendar, brands: Vec::new(), numbers: HashMap::default() }
    }

    /// The number of a brand.
    pub(super) fn intern(&mut self, name: &str) -> BrandId {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = BrandId(self.brands.len() as u32);
        self.brands.push(Brand { name: name.into(), zone: self.calendar.zone(name) });
        self.numbers.insert(name.into(), number);
        number
    }

    /// The number of a brand that has one.
    pub(super) fn find(&self, name: &str) -> Option<BrandId> {
        if self.brands.len() > FEW {
            return self.numbers.get(name).copied();
        }
        (0..).zip(&self.brands).find(|(_, brand)| *brand.name == *name).map(|(number, _)| BrandId(number))
    }

    pub(super) fn name(&self, brand: BrandId) -> &str {
        self.brands.get(brand.0 as usize).map_or("", |known| &known.name)
    }

    pub(super) fn zone(&self, brand: BrandId) -> TimeZone {
        self.brands.get(brand.0 as usize).map_or(self.calendar.default_zone(), |known| known.zone)
    }
}
