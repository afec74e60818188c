//! Goal: every measure of a customer says what its definition says, at its boundaries.
//! Method: hand-made day facts in a real ClickHouse, migrated as always, and `v_segments_at`. Ages are days before the day of as_of.

mod common;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use common::Facts;
use common::facts::{AS_OF, Day};

#[track_caller]
fn near(text: &str, expected: f64, tolerance: f64) {
    let value: f64 = text.parse().unwrap_or(f64::NAN);
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected}");
}

#[test]
fn a_fen_below_the_line_is_the_tier_below() -> Result<()> {
    let facts = Facts::new("tiers")?;
    let cases = [
        ("below_diamond", 2_499_999, "platinum", "diamond", 1),
        ("diamond", 2_500_000, "diamond", "", 0),
        ("below_platinum", 799_999, "gold", "platinum", 1),
        ("platinum", 800_000, "platinum", "diamond", 1_700_000),
        ("below_gold", 199_999, "silver", "gold", 1),
        ("gold", 200_000, "gold", "platinum", 600_000),
        ("one_fen", 1, "silver", "gold", 199_999),
    ];
    let mut days: Vec<Day> = cases.iter().map(|(customer, paid, ..)| Day::pay(customer, 100, *paid)).collect();
    days.extend([Day::pay("refunded", 100, 2_500_000), Day::refund("refunded", 1, 1)]);
    days.extend([Day::pay("only_refunds", 400, 10), Day::refund("only_refunds", 300, 10)]);
    days.extend([
        Day::pay("first_day_of_the_window", 364, 2_500_000),
        Day::pay("a_day_too_old", 365, 2_500_000),
        Day::scan("a_day_too_old", 3),
    ]);
    facts.insert(&days)?;
    let tier = |customer: &str| facts.measure(customer, "tier, next_tier, gap_to_next_tier");
    for (customer, _, tier_name, next_tier, gap) in cases {
        assert_eq!(tier(customer)?, format!("\"{tier_name}\",\"{next_tier}\",{gap}"), "{customer}");
    }
    assert_eq!(tier("refunded")?, "\"platinum\",\"diamond\",1", "a refund takes the tier away");
    assert_eq!(tier("only_refunds")?, "\"none\",\"silver\",10", "less than nothing is not silver");
    assert_eq!(tier("first_day_of_the_window")?, "\"diamond\",\"\",0");
    assert_eq!(tier("a_day_too_old")?, "\"silver\",\"gold\",200000");
    Ok(())
}

#[test]
fn a_window_of_n_days_ends_with_the_day_of_as_of() -> Result<()> {
    let facts = Facts::new("windows")?;
    let ages = [-1, 0, 29, 30, 89, 90, 364, 365];
    let mut days: Vec<Day> = ages.iter().enumerate().map(|(power, age)| Day::pay("c", *age, 10_i64.pow(power as u32))).collect();
    days.push(Day::refund("c", 10, 3));
    days.push(Day::share("c", 29, 2).with_scans(3, 1, 0).of("other"));
    days.push(Day::share("c", 30, 4).with_scans(5, 1, 0).of("other"));
    facts.insert(&days)?;
    let of = |brand: &str, columns: &str| {
        facts.query(&format!("SELECT {columns} FROM v_segments_at(as_of = '{AS_OF}') WHERE brand = '{brand}' FORMAT CSV"))
    };
    assert_eq!(of("acme", "net_30d, net_90d, net_365d, net_lifetime")?, "107,11107,1111107,11111107", "the day after as_of is not seen");
    assert_eq!(of("acme", "orders_30d, orders_90d, orders_365d, orders_lifetime")?, "2,4,6,7");
    assert_eq!(of("acme", "sales_value, ltv_history, ltv_present")?, "1111107,11111107,1111107");
    assert_eq!(of("acme", "active_days_30d, active_days_lifetime, first_day, last_active_day")?, "3,8,\"2025-11-20\",\"2026-11-20\"");
    assert_eq!(of("other", "scans_30d, shares_30d, active_days_30d")?, "3,2,1");
    Ok(())
}

#[test]
fn one_percent_of_the_members_are_word_of_mouth_customers_rounded_up() -> Result<()> {
    let facts = Facts::new("wom_top")?;
    for (brand, members) in [("even", 10_000), ("odd", 10_001), ("few", 7), ("silent", 500)] {
        facts.query(&format!(
            "INSERT INTO customer_days (brand, customer_id, day, scans, joins, version) \
             SELECT '{brand}', concat('c', toString(number)), toDate('2026-11-19'), 2, 1, 1 FROM numbers({members})"
        ))?;
        // Not a member: neither ordered nor joined.
        facts.insert(&[Day::scan("stranger", 0).of(brand)])?;
        let worth = if brand == "silent" { "0" } else { "100 * (number + 1)" };
        facts.query(&format!(
            "INSERT INTO customer_subtrees (brand, customer_id, level, month, paid, version) \
             SELECT '{brand}', concat('c', toString(number)), 1, toDate('2026-11-01'), {worth}, 1 FROM numbers({members})"
        ))?;
    }
    facts.query("INSERT INTO customer_subtrees (brand, customer_id, level, month, paid, version) VALUES ('even', 'stranger', 1, '2026-11-01', 100000000, 1)")?;
    let counts = facts.query(&format!(
        "SELECT brand, countIf(wom_top), countIf(layer = 'L1'), countIf(layer = 'L2'), countIf(layer = 'L3'), countIf(community), max(wom_rank), countIf(member) \
         FROM v_segments_at(as_of = '{AS_OF}') GROUP BY brand ORDER BY brand FORMAT CSV"
    ))?;
    let expected = "\"even\",100,100,900,9000,1000,10000,10000\n\"few\",1,1,0,6,1,7,7\n\"odd\",101,101,900,9000,1001,10001,10001\n\"silent\",0,5,45,450,50,500,500";
    assert_eq!(counts, expected, "a value of 0 is never at the top");
    let best = facts.query(&format!(
        "SELECT customer_id, wom_rank, wom_value FROM v_segments_at(as_of = '{AS_OF}') WHERE brand = 'even' AND wom_rank BETWEEN 1 AND 2 ORDER BY wom_rank FORMAT CSV"
    ))?;
    assert_eq!(best, "\"c9999\",1,20000\n\"c9998\",2,19998");
    Ok(())
}

#[test]
fn equal_values_rank_by_the_later_last_event_and_then_by_the_id() -> Result<()> {
    let facts = Facts::new("ties")?;
    let mut days = Vec::new();
    for (customer, last) in [("d", 1), ("a", 2), ("c", 1), ("b", 1)] {
        days.push(Day::pay(customer, 40, 100));
        days.push(Day::scan(customer, last));
    }
    facts.insert(&days)?;
    // b and c did their last thing on the same day, c a second later.
    facts.query("INSERT INTO customers (brand, customer_id, last_event_time, version) VALUES ('acme', 'c', '2026-11-19 04:00:01', 2)")?;
    facts.query(
        "INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, version) SELECT 'acme', arrayJoin(['a', 'b', 'c', 'd']), 1, '2026-11-01', 1, 1",
    )?;
    let ranks = "SELECT customer_id, wom_rank FROM v_segments_at(as_of = '2026-11-20 04:00:00') ORDER BY wom_rank FORMAT CSV";
    assert_eq!(facts.query(ranks)?, "\"c\",1\n\"b\",2\n\"d\",3\n\"a\",4");
    Ok(())
}

#[test]
fn influence_weighs_level_age_money_and_customers() -> Result<()> {
    let facts = Facts::new("influence")?;
    // 10 events that count on one day and 4 on another; the day of age 30 is outside.
    let busy = Day::share("c", 29, 5).with_scans(7, 3, 1);
    facts.insert(&[busy, Day::share("c", 0, 1).with_scans(2, 1, 0), Day::scan("c", 30), Day::pay("c", 31, 1)])?;
    facts.query(
        "INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, orders, paid, refunded, version) VALUES \
         ('acme', 'c', 1, '2026-11-01', 2, 1, 12345, 345, 1), ('acme', 'c', 2, '2026-10-01', 1, 1, 8000, 0, 1), \
         ('acme', 'c', 6, '2026-11-01', 3, 0, 0, 0, 1), ('acme', 'c', 7, '2026-11-01', 100, 9, 900000, 0, 1), \
         ('acme', 'c', 1, '2026-12-01', 5, 1, 700, 0, 1), ('acme', 'c', 1, '2025-12-01', 1, 1, 100, 0, 1), ('acme', 'c', 1, '2025-11-01', 1, 1, 5000, 0, 1)",
    )?;
    // Level 1 this month: 120 + 2 x 10; level 2 a month ago: (80 + 10) / 4; level 6: 3 x 10 / 32; 11 and 12 months ago: 11 / 2048 and 60 / 4096.
    let influence = 140.0 + 22.5 + 30.0 / 32.0 + 11.0 / 2048.0 + 60.0 / 4096.0;
    near(&facts.measure("c", "influence")?, influence, 1e-9);
    assert_eq!(facts.measure("c", "interaction_frequency")?, "14");
    near(&facts.measure("c", "wom_value")?, 14.0 * influence, 1e-9);
    assert_eq!(facts.measure("c", "ltv_referral")?, (12_000 + 8_000 + 100).to_string(), "twelve months, this one included");
    Ok(())
}

#[test]
fn a_quadrant_is_high_from_the_eightieth_percentile_of_the_members() -> Result<()> {
    let facts = Facts::new("quadrants")?;
    let mut days: Vec<Day> = (1..=10).map(|number| Day::pay(&format!("c{number}"), 1, number * 100).with_scans(1, 0, 0)).collect();
    days.push(Day::scan("stranger", 1));
    facts.insert(&days)?;
    facts.query("INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, version) SELECT 'acme', concat('c', toString(number + 1)), 1, '2026-11-01', 10 - number, 1 FROM numbers(10)")?;
    let quadrants = facts.query(&format!(
        "SELECT quadrant, arraySort(groupArray(customer_id)) FROM v_segments_at(as_of = '{AS_OF}') WHERE member GROUP BY quadrant ORDER BY quadrant FORMAT CSV"
    ))?;
    assert_eq!(quadrants, "\"high_low\",\"['c10','c9']\"\n\"low_high\",\"['c1','c2']\"\n\"low_low\",\"['c3','c4','c5','c6','c7','c8']\"");
    Ok(())
}

/// 125 customers: for each of R, F and M five values that are shared out equally.
fn one_customer_a_cell() -> Vec<Day> {
    let mut days = Vec::new();
    for recency in 1..=5_i64 {
        for frequency in 1..=5_i64 {
            for money in 1..=5_i64 {
                let customer = format!("r{recency}f{frequency}m{money}");
                let last = (6 - recency) * 50;
                days.extend((1..frequency).map(|earlier| Day::pay(&customer, last + earlier, 1)));
                days.push(Day::pay(&customer, last, money * 1000 - (frequency - 1)));
            }
        }
    }
    days
}

#[test]
fn each_of_the_125_rfm_cells_has_one_name() -> Result<()> {
    let facts = Facts::new("rfm")?;
    facts.insert(&one_customer_a_cell())?;
    facts.insert(&[Day::scan("never_paid", 1)])?;
    let cells = facts.query(&format!(
        "SELECT customer_id, concat('r', toString(rfm_r), 'f', toString(rfm_f), 'm', toString(rfm_m)), rfm_segment FROM v_segments_at(as_of = '{AS_OF}') FORMAT TSV"
    ))?;
    let mut sizes: BTreeMap<String, u32> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for line in cells.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [customer, cell, segment] = columns[..] else { anyhow::bail!("{line}") };
        if customer != "never_paid" {
            assert_eq!(customer, cell);
        }
        *sizes.entry(segment.to_owned()).or_default() += 1;
        names.insert(customer.to_owned(), segment.to_owned());
    }
    let counted: Vec<(&str, u32)> = sizes.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let expected = [
        ("about_to_sleep", 10),
        ("at_risk", 26),
        ("cannot_lose", 4),
        ("champion", 8),
        ("lost", 10),
        ("loyal", 37),
        ("need_attention", 5),
        ("new", 10),
        ("none", 1),
        ("potential_loyal", 10),
        ("promising", 5),
    ];
    assert_eq!(counted, expected);
    for (cell, name) in [
        ("r5f5m5", "champion"),
        ("r4f4m4", "champion"),
        ("r4f4m3", "loyal"),
        ("r3f3m1", "loyal"),
        ("r1f4m4", "cannot_lose"),
        ("r2f4m4", "at_risk"),
        ("r1f3m5", "at_risk"),
        ("r4f2m5", "potential_loyal"),
        ("r5f1m5", "new"),
        ("r3f2m1", "need_attention"),
        ("r3f1m1", "promising"),
        ("r2f2m5", "about_to_sleep"),
        ("r1f2m5", "lost"),
        ("never_paid", "none"),
    ] {
        assert_eq!(names.get(cell).map(String::as_str), Some(name), "{cell}");
    }
    assert_eq!(facts.measure("r5f3m2", "recency_days, frequency_days, net_365d")?, "50,3,2000");
    Ok(())
}

/// Days of scans by their ages.
fn scans(customer: &str, ages: &[i64]) -> Vec<Day> {
    ages.iter().map(|age| Day::scan(customer, *age)).collect()
}

#[test]
fn every_edge_of_the_lifecycle_is_where_it_is_defined() -> Result<()> {
    let facts = Facts::new("lifecycle")?;
    let cases: [(&str, &[i64], &str); 19] = [
        ("new_today", &[0], "new"),
        ("new_30", &[30], "new"),
        ("old_31", &[31], "active"),
        ("came_twice", &[1, 20], "active"),
        ("active_30", &[30, 31], "active"),
        ("active_45", &[45, 46], "active"),
        ("at_risk_46", &[46, 47], "at_risk"),
        ("at_risk_75", &[75, 76], "at_risk"),
        ("dormant_76", &[76, 77], "dormant"),
        ("dormant_180", &[180, 181], "dormant"),
        ("lost_181", &[181, 182], "lost"),
        // Three gaps of 40 days: 1.5, 2.5 and 5 of them are 60, 100 and 200.
        ("own_60", &[60, 100, 140, 180], "active"),
        ("own_61", &[61, 101, 141, 181], "at_risk"),
        ("own_100", &[100, 140, 180, 220], "at_risk"),
        ("own_101", &[101, 141, 181, 221], "dormant"),
        ("own_200", &[200, 240, 280, 320], "dormant"),
        ("own_201", &[201, 241, 281, 321], "lost"),
        // Gaps of a day: the fixed days are the longer ones.
        ("daily_30", &[30, 31, 32, 33], "active"),
        ("daily_61", &[61, 62, 63, 64], "dormant"),
    ];
    let mut days: Vec<Day> = cases.iter().flat_map(|(customer, ages, _)| scans(customer, ages)).collect();
    days.push(Day::share("sharer", 5, 1));
    days.push(Day::refund("refunded", 5, 100));
    // A share or a refund is no sign of life, but a day with an event.
    days.extend([Day::pay("shared_since", 181, 100), Day::scan("shared_since", 182), Day::share("shared_since", 1, 1)]);
    facts.insert(&days)?;
    for (customer, _, state) in cases {
        assert_eq!(facts.measure(customer, "lifecycle")?, format!("\"{state}\""), "{customer}");
    }
    assert_eq!(facts.measure("old_31", "inactive_days, activity_interval_days")?, "31,30");
    assert_eq!(facts.measure("own_60", "inactive_days, activity_interval_days")?, "60,40");
    assert_eq!(facts.measure("sharer", "lifecycle, inactive_days")?, "\"prospect\",\\N");
    assert_eq!(facts.measure("refunded", "lifecycle, p_alive, churn_band, rfm_segment")?, "\"prospect\",\\N,\"none\",\"none\"");
    assert_eq!(facts.measure("shared_since", "lifecycle")?, "\"lost\"");
    Ok(())
}

#[test]
fn the_interval_is_the_median_gap_from_three_gaps_on() -> Result<()> {
    let facts = Facts::new("gaps")?;
    let mut days = scans("two_gaps", &[0, 5, 15]);
    days.extend(scans("three_gaps", &[0, 5, 15, 100]));
    days.extend(scans("four_gaps", &[0, 5, 15, 100, 140]));
    facts.insert(&days)?;
    for (customer, interval) in [("two_gaps", "30"), ("three_gaps", "10"), ("four_gaps", "25")] {
        assert_eq!(facts.measure(customer, "activity_interval_days")?, interval, "{customer}");
    }
    Ok(())
}

#[test]
fn spend_that_drops_to_two_fifths_is_said_so() -> Result<()> {
    let facts = Facts::new("spend")?;
    let spend = |customer: &str, windows: [i64; 4]| -> Vec<Day> {
        windows.iter().zip([119, 60, 30, 0]).filter(|(paid, _)| **paid > 0).map(|(paid, age)| Day::pay(customer, age, *paid)).collect()
    };
    let mut days = spend("dropped", [100, 100, 100, 40]);
    days.extend(spend("half", [100, 100, 100, 50]));
    days.extend(spend("first_time", [0, 0, 0, 100]));
    days.extend([Day::pay("long_ago", 120, 100), Day::pay("long_ago", 1, 100)]);
    facts.insert(&days)?;
    assert_eq!(facts.measure("dropped", "spend_drop, churn_band")?, "0.4,\"high\"", "however alive");
    assert_eq!(facts.measure("half", "spend_drop, churn_band = 'high'")?, "0.5,0");
    assert_eq!(facts.measure("first_time", "spend_drop")?, "\\N");
    assert_eq!(facts.measure("long_ago", "spend_drop")?, "\\N", "the windows reach back 120 days");
    Ok(())
}

/// The published vectors are in fractions of weeks. The formula depends on (alpha + T) / (alpha + t_x) alone: a hundred times the
/// days with a hundred times alpha is the same customer, and has whole days.
const SCALE: f64 = 100.0 / 7.0;

#[test]
fn the_probability_to_be_alive_is_the_published_one() -> Result<()> {
    let facts = Facts::new("p_alive")?;
    facts.query(&format!("INSERT INTO parameters (brand, name, value) VALUES ('acme', 'alpha', {})", 4.414 * SCALE))?;
    facts.insert(&[
        Day::pay("once", 3886, 100),
        Day::pay("thrice", 3886, 100),
        Day::pay("thrice", 2000, 100),
        Day::pay("thrice", 3886 - 3043, 100),
    ])?;
    near(&facts.measure("once", "p_alive")?, 0.637_253, 1e-6);
    near(&facts.measure("thrice", "p_alive")?, 0.774_419, 1e-6);
    // With the default parameters, by the formula: weeks between days, repeat purchase days and not orders.
    let plain = Facts::new("p_alive_plain")?;
    plain.insert(&[Day::pay("c", 140, 100), Day::pay("c", 70, 100), Day::pay("c", 7, 100)])?;
    let expected = 1.0 / (1.0 + 0.793 / (2.426 + 2.0) * ((4.414 + 20.0_f64) / (4.414 + 19.0)).powf(0.243 + 2.0));
    near(&plain.measure("c", "p_alive")?, expected, 1e-9);
    assert_eq!(plain.measure("c", "churn_band")?, "\"low\"");
    Ok(())
}

#[test]
fn potential_is_expected_by_the_models_when_fitted_and_by_habit_otherwise() -> Result<()> {
    let facts = Facts::new("potential")?;
    let habit =
        [Day::pay("c", 140, 1000), Day::pay("c", 70, 3000), Day::pay("c", 400, 9999), Day::refund("c", 60, 1000), Day::scan("never", 1)];
    facts.insert(&habit)?;
    let p_alive: f64 = facts.measure("c", "p_alive")?.parse().context("p_alive")?;
    near(&facts.measure("c", "ltv_potential")?, 2.0 * p_alive * 1500.0, 1e-6);
    assert_eq!(facts.measure("never", "ltv_potential, ltv_method")?, "0,\"orders_p_alive\"");

    let fitted = Facts::new("fitted")?;
    fitted.insert(&[
        Day::pay("thrice", 3886, 500),
        Day::pay("thrice", 2000, 2000),
        Day::pay("thrice", 3886 - 3043, 4000),
        Day::pay("once", 3886, 500),
    ])?;
    let alpha = 4.414 * SCALE;
    fitted.query(&format!(
        "INSERT INTO parameters (brand, name, value) VALUES ('acme', 'r', 0.243), ('acme', 'alpha', {alpha}), ('acme', 'a', 0.793), ('acme', 'b', 2.426), \
         ('acme', 'gg_p', 6.25), ('acme', 'gg_q', 3.74), ('acme', 'ltv_days', 3900)"
    ))?;
    assert_eq!(fitted.measure("once", "ltv_method")?, "\"orders_p_alive\"", "one parameter of the fit is missing");
    fitted.query("INSERT INTO parameters (brand, name, value) VALUES ('acme', 'gg_v', 1544)")?;
    // Fader, Hardie and Lee (2005): 39 weeks ahead, x = 2, t_x = 30.43, T = 38.86 gives 1.226 purchases. The first purchase is no repeat.
    let value = |repeats: f64, sum: f64| 6.25 * (1544.0 + sum) / (6.25 * repeats + 3.74 - 1.0);
    near(&fitted.measure("thrice", "ltv_potential")?, 1.226_028_174_767_135 * value(2.0, 6000.0), 1e-4);
    near(&fitted.measure("once", "ltv_potential")?, 0.195_098_052_011_253_96 * value(0.0, 0.0), 1e-6);
    assert_eq!(fitted.measure("once", "ltv_method")?, "\"bgnbd_gamma_gamma\"");
    Ok(())
}

#[test]
fn a_row_of_parameters_beats_the_default_for_its_brand_alone() -> Result<()> {
    let facts = Facts::new("overrides")?;
    facts.insert(&[Day::pay("c", 1, 150_000), Day::pay("c", 1, 150_000).of("other")])?;
    let tiers = || facts.query(&format!("SELECT brand, tier FROM v_segments_at(as_of = '{AS_OF}') ORDER BY brand FORMAT CSV"));
    assert_eq!(tiers()?, "\"acme\",\"silver\"\n\"other\",\"silver\"");
    facts.query("INSERT INTO parameters (brand, name, value) VALUES ('acme', 'tier_gold', 150000), ('acme', 'tier_platinum', 150001)")?;
    assert_eq!(tiers()?, "\"acme\",\"gold\"\n\"other\",\"silver\"");
    facts.query("INSERT INTO parameters (brand, name, value) VALUES ('acme', 'tier_platinum', 150000)")?;
    assert_eq!(tiers()?, "\"acme\",\"platinum\"\n\"other\",\"silver\"", "the newest row counts");
    let in_force = "SELECT value, is_own FROM v_brand_parameters WHERE name = 'tier_gold' ORDER BY brand FORMAT CSV";
    assert_eq!(facts.query(in_force)?, "150000,true\n200000,false");
    Ok(())
}

#[test]
fn members_are_who_the_rule_says() -> Result<()> {
    let facts = Facts::new("members")?;
    let join = |customer: &str, age: i64| Day::empty(customer, age).with_scans(1, 0, 1);
    facts.insert(&[
        Day::scan("scanned", 1),
        join("joined", 364),
        join("too_old", 365),
        Day::pay("paid", 364, 1),
        Day::pay("paid_before", 365, 1),
    ])?;
    let members = || {
        facts.query(&format!("SELECT groupArray(customer_id) FROM (SELECT customer_id FROM v_segments_at(as_of = '{AS_OF}') WHERE member ORDER BY customer_id)"))
    };
    assert_eq!(members()?, "['joined','paid']");
    facts.query("INSERT INTO parameters (brand, name, value) VALUES ('acme', 'member_rule', 1)")?;
    assert_eq!(members()?, "['paid']");
    facts.query("INSERT INTO parameters (brand, name, value) VALUES ('acme', 'member_rule', 2)")?;
    assert_eq!(members()?, "['joined','paid','paid_before','scanned','too_old']");
    Ok(())
}

#[test]
fn somebody_picked_by_hand_is_a_word_of_mouth_customer_while_the_pick_holds() -> Result<()> {
    let facts = Facts::new("picks")?;
    facts.insert(&[Day::scan("picked", 300), Day::scan("expired", 300), Day::scan("ended", 300)])?;
    facts.query(
        "INSERT INTO manual_picks (brand, customer_id, source, until) VALUES ('acme', 'picked', 'guide', '2026-11-20 04:00:01'), \
         ('acme', 'picked', 'search', '2027-01-01'), ('acme', 'expired', 'guide', '2026-11-20 04:00:00'), ('acme', 'ended', 'guide', '2027-01-01')",
    )?;
    facts.query("INSERT INTO manual_picks (brand, customer_id, source, until) VALUES ('acme', 'ended', 'guide', '1970-01-01')")?;
    let picked = facts.measure(
        "picked",
        "wom_top, manual_pick, member, wom_rank, has(flags, 'manual_pick'), has(reasons, 'picked by hand: guide, search')",
    )?;
    assert_eq!(picked, "true,1,false,0,1,1");
    for customer in ["expired", "ended"] {
        assert_eq!(facts.measure(customer, "wom_top, manual_pick")?, "false,0", "{customer}");
    }
    Ok(())
}

#[test]
fn the_same_definition_answers_for_a_past_day() -> Result<()> {
    let facts = Facts::new("past")?;
    let mut days = scans("c", &[200, 201]);
    days.extend([Day::pay("c", 10, 2_500_000), Day::scan("later", 5)]);
    facts.insert(&days)?;
    let at = |moment: &str| {
        facts.query(&format!("SELECT customer_id, lifecycle, tier, net_lifetime, as_of_day FROM v_segments_at(as_of = '{moment}') ORDER BY customer_id FORMAT CSV"))
    };
    assert_eq!(at(AS_OF)?, "\"c\",\"active\",\"diamond\",2500000,\"2026-11-20\"\n\"later\",\"new\",\"silver\",0,\"2026-11-20\"");
    assert_eq!(at("2026-11-10 04:00:00")?, "\"c\",\"active\",\"diamond\",2500000,\"2026-11-10\"");
    assert_eq!(at("2026-11-09 15:59:59.999")?, "\"c\",\"lost\",\"silver\",0,\"2026-11-09\"", "a moment before midnight in Shanghai");
    assert_eq!(at("2026-11-09 16:00:00")?, "\"c\",\"active\",\"diamond\",2500000,\"2026-11-10\"");
    assert_eq!(at("2025-01-01 00:00:00")?, "");
    Ok(())
}

#[test]
fn a_brand_has_the_business_day_of_its_own_time_zone() -> Result<()> {
    let facts = Facts::with(
        "zones",
        "[pipeline]\ntime_zone = \"Z\"\n[brands.east]\ntime_zone = \"+08:00\"\n[brands.west]\ntime_zone = \"-03:30\"\n",
    )?;
    let days: Vec<Day> =
        ["east", "middle", "west"].iter().flat_map(|brand| [-1, 0, 1].map(|age| Day::pay("c", age, 1).of(brand))).collect();
    facts.insert(&days)?;
    let at = |moment: &str| {
        facts.query(&format!("SELECT brand, as_of_day, orders_lifetime FROM v_segments_at(as_of = '{moment}') ORDER BY brand FORMAT CSV"))
    };
    assert_eq!(at("2026-11-20 16:00:00")?, "\"east\",\"2026-11-21\",3\n\"middle\",\"2026-11-20\",2\n\"west\",\"2026-11-20\",2");
    assert_eq!(at("2026-11-20 03:29:59")?, "\"east\",\"2026-11-20\",2\n\"middle\",\"2026-11-20\",2\n\"west\",\"2026-11-19\",1");
    Ok(())
}

#[test]
fn customers_who_were_only_named_are_left_out() -> Result<()> {
    let facts = Facts::new("named")?;
    facts.insert(&[Day::scan("c", 1)])?;
    facts.query("INSERT INTO customers (brand, customer_id, referred_direct, version) VALUES ('acme', 'named', 1, 1)")?;
    facts.query("INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, version) VALUES ('acme', 'named', 1, '2026-11-01', 1, 1)")?;
    assert_eq!(facts.query(&format!("SELECT customer_id FROM v_segments_at(as_of = '{AS_OF}')"))?, "c");
    Ok(())
}

#[test]
fn the_refreshed_table_is_the_definition_at_the_moment_of_its_refresh() -> Result<()> {
    let facts = Facts::new("refreshed")?;
    facts.refresh_by_hand()?;
    facts.query(
        "INSERT INTO customer_days (brand, customer_id, day, scans, orders, paid, version) \
         SELECT if(number % 3 = 0, 'acme', 'other'), concat('c', toString(number % 500)), today() - number % 400, 1, number % 2, (number % 2) * number, 1 FROM numbers(5000)",
    )?;
    facts.query("INSERT INTO customer_subtrees (brand, customer_id, level, month, paid, version) SELECT 'acme', concat('c', toString(number)), 1, toStartOfMonth(today()), number * 7, 1 FROM numbers(500)")?;
    facts.know_customers()?;
    facts.refresh("customer_segments")?;
    assert_eq!(
        facts.query(
            "SELECT count(), uniqExact(brand, customer_id), uniqExact(as_of), min(definition_version) FROM customer_segments FORMAT CSV"
        )?,
        "1000,1000,1,1"
    );
    let as_of = facts.query("SELECT any(as_of) FROM customer_segments")?;
    let hash = "SELECT count(), sum(cityHash64(*)) FROM (SELECT * REPLACE (arrayMap(flag -> toString(flag), flags) AS flags, toString(layer) AS layer, toString(quadrant) AS quadrant, \
         toString(tier) AS tier, toString(next_tier) AS next_tier, toString(rfm_segment) AS rfm_segment, toString(lifecycle) AS lifecycle, toString(churn_band) AS churn_band, \
         toString(ltv_method) AS ltv_method) FROM";
    let table = facts.query(&format!("{hash} customer_segments) FORMAT CSV"))?;
    assert_eq!(table, facts.query(&format!("{hash} v_segments_at(as_of = '{as_of}')) FORMAT CSV"))?);
    Ok(())
}
