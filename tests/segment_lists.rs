//! Goal: lists, transitions and aggregates say what marketing reads in them.
//! Method: hand-made facts in a real ClickHouse, migrated as always; where a list follows a refresh, the refresh is asked for.

mod common;

use anyhow::Result;
use common::facts::{AS_OF, Day};
use common::{DEADLINE, Facts, wait_until};

/// `count` customers named after `prefix` with one event each on the days that lie so far before `base`.
fn plant(facts: &Facts, prefix: &str, count: u32, base: &str, ages: &[i64], columns: &str) -> Result<()> {
    facts.query(&format!(
        "INSERT INTO customer_days (brand, customer_id, day, scans, orders, refunds, paid, refunded, version) \
         SELECT 'acme', concat('{prefix}', toString(number)), {base} - arrayJoin({ages:?}), {columns}, 2 FROM numbers({count})"
    ))?;
    Ok(())
}

const SCAN: &str = "1, 0, 0, 0, 0";

fn plant_before(facts: &Facts, base: &str) -> Result<()> {
    plant(facts, "sleeper", 207, base, &[100, 101], SCAN)?;
    plant(facts, "gone", 87, base, &[280, 281], SCAN)?;
    plant(facts, "buyer", 129, base, &[5, 6], "0, 1, 0, 60000, 0")?;
    plant(facts, "regretful", 11, base, &[5, 6], "0, 1, 0, 125000, 0")?;
    plant(facts, "still", 100, base, &[3, 4], SCAN)?;
    plant(facts, "asleep", 50, base, &[100, 101], SCAN)?;
    plant(facts, "shaky", 40, base, &[50, 51], SCAN)
}

fn plant_campaign(facts: &Facts, day: &str) -> Result<()> {
    plant(facts, "newcomer", 371, day, &[0], SCAN)?;
    // Somebody new who is gold at once is new, and did not move up.
    plant(facts, "new_and_rich", 1, day, &[0], "0, 1, 0, 300000, 0")?;
    plant(facts, "sleeper", 207, day, &[0], SCAN)?;
    plant(facts, "gone", 87, day, &[0], SCAN)?;
    plant(facts, "buyer", 129, day, &[0], "0, 1, 0, 80000, 0")?;
    plant(facts, "regretful", 11, day, &[0], "0, 0, 1, 0, 60000")?;
    // From at risk to active is not waking.
    plant(facts, "shaky", 40, day, &[0], SCAN)
}

const COUNTED: &str = "SELECT transition, count(), uniqExact(customer_id) FROM {source} GROUP BY transition ORDER BY transition FORMAT CSV";
const PLANTED: &str = "\"new\",372,372\n\"tier_down\",11,11\n\"tier_up\",129,129\n\"woken\",207,207\n\"won_back\",87,87";

#[test]
fn a_planted_campaign_gives_back_exactly_its_customers_between_two_moments() -> Result<()> {
    let facts = Facts::new("campaign")?;
    plant_before(&facts, "toDate('2026-10-31')")?;
    plant_campaign(&facts, "toDate('2026-11-17')")?;
    let between = |from: &str, to: &str| {
        let source = format!("v_segment_transitions(from_as_of = '{from}', to_as_of = '{to}')");
        facts.query(&COUNTED.replace("{source}", &source))
    };
    assert_eq!(between("2026-10-31 04:00:00", AS_OF)?, PLANTED);
    assert_eq!(between("2026-11-18 04:00:00", AS_OF)?, "", "after it nothing moved");
    Ok(())
}

#[test]
fn two_refreshes_around_a_campaign_tell_the_same_once() -> Result<()> {
    let facts = Facts::new("refreshes")?;
    facts.refresh_by_hand()?;
    plant_before(&facts, "today()")?;
    facts.refresh("customer_segments")?;
    let told = || facts.query(&COUNTED.replace("{source}", "segment_transitions"));
    wait_until("the states of the first refresh", DEADLINE, || Ok(facts.query("SELECT count() FROM segment_states FINAL")? == "624"))?;
    assert_eq!(told()?, "", "the first refresh says where everybody stands");
    plant_campaign(&facts, "today()")?;
    facts.refresh("customer_segments")?;
    wait_until("the transitions of the second refresh", DEADLINE, || Ok(told()? == PLANTED))?;
    let moments = "SELECT uniqExact(from_as_of), uniqExact(to_as_of), min(from_as_of < to_as_of) FROM segment_transitions FORMAT CSV";
    assert_eq!(facts.query(moments)?, "1,1,1");
    facts.refresh("customer_segments")?;
    facts.query("SYSTEM REFRESH VIEW refresh_segment_states")?;
    facts.query("SYSTEM WAIT VIEW refresh_segment_states")?;
    assert_eq!(told()?, PLANTED, "a third refresh without news adds nothing");
    Ok(())
}

/// Who has the flag at [`AS_OF`].
fn flagged(facts: &Facts, flag: &str) -> Result<String> {
    facts.query(&format!(
        "SELECT arrayStringConcat(arraySort(groupArray(customer_id)), ' ') FROM v_segments_at(as_of = '{AS_OF}') WHERE has(flags, '{flag}')"
    ))
}

#[test]
fn each_list_has_its_customers_up_to_its_edges() -> Result<()> {
    let facts = Facts::new("lists")?;
    let mut days = vec![Day::scan("once_6", 6), Day::scan("once_7", 7), Day::scan("once_90", 90), Day::scan("once_91", 91)];
    days.extend([Day::scan("twice", 20), Day::scan("twice", 10)]);
    days.extend([Day::pay("near_gold", 5, 180_000), Day::pay("not_near_gold", 5, 179_999), Day::pay("gold", 5, 200_000)]);
    days.extend([Day::pay("diamond", 5, 2_500_000), Day::pay("near_diamond", 5, 2_250_000)]);
    // A high value that was lost 100 days ago.
    days.extend([Day::pay("leaving", 100, 3_000_000), Day::pay("leaving", 101, 3_000_000)]);
    let busy = |customer: &str, count: i64| (0..count).map(|age| Day::empty(customer, age).with_scans(1, 0, 1)).collect::<Vec<_>>();
    days.extend(busy("busy_8", 8));
    days.extend(busy("busy_7", 7));
    days.extend(busy("busy_sharer", 8));
    days.push(Day::share("busy_sharer", 364, 1));
    days.extend(busy("once_a_sharer", 8));
    days.push(Day::share("once_a_sharer", 365, 1));
    facts.insert(&days)?;
    assert_eq!(flagged(&facts, "new_not_returned")?, "once_7 once_90");
    assert_eq!(flagged(&facts, "near_next_tier")?, "near_diamond near_gold");
    assert_eq!(flagged(&facts, "diamond")?, "diamond leaving");
    assert_eq!(flagged(&facts, "value_at_risk")?, "leaving");
    assert_eq!(flagged(&facts, "potential_sharer")?, "busy_8 diamond leaving once_a_sharer");
    assert_eq!(flagged(&facts, "dormant")?, "leaving once_90 once_91");
    let reasons = facts.measure("near_gold", "reasons")?;
    assert_eq!(reasons, "\"['near gold']\"");
    Ok(())
}

#[test]
fn every_list_is_a_view_with_one_row_a_customer() -> Result<()> {
    let facts = Facts::new("list_views")?;
    plant_before(&facts, "today()")?;
    plant(&facts, "rich", 4, "today()", &[2, 3], "0, 1, 0, 1500000, 0")?;
    plant(&facts, "leaving", 3, "today()", &[70, 71], "0, 1, 0, 2000000, 0")?;
    plant(&facts, "close", 2, "today()", &[2, 3], "0, 1, 0, 95000, 0")?;
    plant(&facts, "once", 6, "today()", &[20], SCAN)?;
    facts.query(
        "INSERT INTO manual_picks (brand, customer_id, source, until) VALUES ('acme', 'still7', 'guide', now() + toIntervalDay(1))",
    )?;
    facts.query("INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, version) VALUES ('acme', 'rich0', 1, toStartOfMonth(today()), 3, 1)")?;
    plant(&facts, "rich", 1, "today()", &[1], SCAN)?;
    facts.refresh("customer_segments")?;
    for (list, expected) in [
        ("high_word_of_mouth", "rich0 still7"),
        ("high_value_at_risk", "leaving0 leaving1 leaving2"),
        ("diamond", "leaving0 leaving1 leaving2 rich0 rich1 rich2 rich3"),
        ("near_next_tier", "close0 close1"),
        ("new_not_returned", "once0 once1 once2 once3 once4 once5"),
    ] {
        let sql = format!("SELECT arrayStringConcat(arraySort(groupArray(customer_id)), ' ') FROM v_segment_{list}");
        assert_eq!(facts.query(&sql)?, expected, "{list}");
    }
    for (list, count) in [("dormant", 257), ("lost", 87)] {
        let sql = format!("SELECT count(), uniqExact(customer_id), countIf(empty(reasons)) FROM v_segment_{list} FORMAT CSV");
        assert_eq!(facts.query(&sql)?, format!("{count},{count},0"), "{list}");
    }
    let sharers = "SELECT count() > 0, count() = uniqExact(customer_id), countIf(last_share_day != toDate(0)) FROM v_segment_potential_sharers FORMAT CSV";
    assert_eq!(facts.query(sharers)?, "1,1,0");
    Ok(())
}

/// Who, how many codes, the time between two of them in seconds, the regions in turn, the device.
const SCANNERS: [(&str, u32, u32, &str, &str); 14] = [
    ("drinker", 90, 28_800, "[310101]", "own1"),
    ("hunter", 20, 86_400, "[310101, 310102, 440300, 110101]", "own2"),
    ("settled", 20, 86_400, "[310101, 310102, 440300]", "own3"),
    ("idle", 19, 86_400, "[310101, 310102, 440300, 110101]", "own4"),
    ("codes_30", 30, 1_200, "[310101]", "own5"),
    ("codes_31", 31, 1_200, "[310101]", "own6"),
    ("burst_9", 9, 60, "[310101]", "own7"),
    ("burst_10", 10, 66, "[310101]", "own8"),
    ("slow_10", 10, 67, "[310101]", "own9"),
    ("cities_5", 5, 3_600, "[310101, 440300, 110101, 330102, 500101]", "own10"),
    ("cities_4", 5, 3_600, "[310101, 310000, 440300, 110101, 330102]", "own11"),
    ("buyer", 20, 86_400, "[310101, 310102, 440300, 110101]", "own12"),
    ("old", 40, 1_200, "[310101]", "own13"),
    ("other_deeds", 20, 86_400, "[310101, 310102, 440300, 110101]", "own14"),
];

#[test]
fn hunters_are_named_with_their_reasons_and_a_daily_drinker_is_not_one() -> Result<()> {
    let facts = Facts::new("hunters")?;
    for (who, codes, seconds, regions, device) in SCANNERS {
        let last = if who == "old" { "2026-10-10 14:00:00" } else { "2026-11-20 03:59:00" };
        facts.query(&format!(
            "INSERT INTO scans (brand, code, event_time, event_id, customer_id, region, device, purpose, role) \
             SELECT 'acme', concat('{who}', toString(number)), toDateTime64('{last}', 3, 'UTC') - toIntervalSecond(number * {seconds}), toString(number), \
                    '{who}', {regions}[number % length({regions}) + 1], '{device}', 'draw', 'consumer' FROM numbers({codes})"
        ))?;
    }
    for (device, customers) in [("shared", 5), ("family", 4)] {
        facts.query(&format!(
            "INSERT INTO scans (brand, code, event_time, event_id, customer_id, region, device, purpose, role) \
             SELECT 'acme', '{device}', toDateTime64('2026-11-10 04:00:00', 3, 'UTC'), 'e', concat('{device}', toString(number)), 310101, '{device}', 'draw', 'consumer' \
             FROM numbers({customers})"
        ))?;
    }
    facts.query(
        "INSERT INTO customer_days (brand, customer_id, day, scans, draws, orders, shares, version) \
         SELECT brand, customer_id, toDate(event_time + toIntervalHour(8)) AS day, count(), count(), customer_id = 'buyer', if(customer_id = 'other_deeds', 3, 0), 1 \
         FROM scans GROUP BY brand, customer_id, day",
    )?;
    let found = facts.query(&format!(
        "SELECT customer_id, arrayStringConcat(reasons, ' ') FROM v_hunters_at(as_of = '{AS_OF}') ORDER BY customer_id FORMAT CSV"
    ))?;
    let mut expected = vec![
        "\"burst_10\",\"many_codes_at_once\"".to_owned(),
        "\"cities_5\",\"many_cities_a_day\"".to_owned(),
        "\"codes_31\",\"many_codes_a_day\"".to_owned(),
        "\"hunter\",\"draws_only\"".to_owned(),
    ];
    expected.extend((0..5).map(|number| format!("\"shared{number}\",\"shared_device\"")));
    assert_eq!(found, expected.join("\n"));
    facts.query("INSERT INTO scans (brand, code, event_time, event_id, customer_id, region, device, purpose, role) \
         SELECT 'acme', concat('now', toString(number)), now64(3) - toIntervalMinute(1), 'e', 'hunter_now', 310101, '', 'draw', 'consumer' FROM numbers(40)")?;
    facts.refresh("lottery_hunters")?;
    let listed = "SELECT reasons FROM v_segment_lottery_hunters WHERE customer_id = 'hunter_now'";
    assert_eq!(facts.query(listed)?, "['many_codes_a_day','many_codes_at_once']");
    Ok(())
}

const NOVEMBER: &str = "from_day = '2026-11-01', until_day = '2026-12-01'";

#[test]
fn sixty_of_a_hundred_new_customers_are_six_tenths() -> Result<()> {
    let facts = Facts::new("growth")?;
    facts.query(
        "INSERT INTO activity_day (brand, day, task, new_customers, referred_customers, version) VALUES \
         ('acme', '2026-11-01', '0', 40, 20, 1), ('acme', '2026-11-30', '1', 60, 40, 1), ('acme', '2026-10-31', '0', 7, 7, 1), ('acme', '2026-12-01', '0', 7, 7, 1), \
         ('quiet', '2026-11-01', '0', 0, 0, 1)",
    )?;
    plant(&facts, "before", 200, "toDate('2026-11-01')", &[1, 30], SCAN)?;
    plant(&facts, "too_early", 50, "toDate('2026-11-01')", &[31], SCAN)?;
    plant(&facts, "within", 50, "toDate('2026-11-01')", &[0], SCAN)?;
    facts.query(
        "INSERT INTO customers (brand, customer_id, first_event_time, version) VALUES ('acme', 'parent', '2026-10-01 00:00:00', 1)",
    )?;
    facts.query(
        "INSERT INTO referrals (brand, child_id, parent_id, time, version) VALUES ('acme', 'a', 'parent', '2026-11-02 00:00:00', 1), \
         ('acme', 'b', 'parent', '2026-11-05 12:00:00', 1), ('acme', 'c', 'parent', '2026-10-31 15:59:59', 1), ('acme', 'd', '', '2026-11-03 00:00:00', 1)",
    )?;
    let growth = format!("SELECT * FROM v_growth({NOVEMBER}) ORDER BY brand FORMAT CSV");
    assert_eq!(facts.query(&growth)?, "\"acme\",100,60,0.6,200,0.3,33.75\n\"quiet\",0,0,\\N,0,\\N,\\N", "no division by zero");
    facts.query(
        "INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, paid, version) VALUES ('acme', 'parent', 1, '2026-11-01', 2, 100, 1), \
         ('acme', 'parent', 1, '2026-10-01', 1, 0, 1), ('acme', 'parent', 2, '2026-11-01', 1, 50, 1), ('acme', 'parent', 3, '2026-11-01', 0, 0, 1), ('acme', 'nobody', 1, '2026-11-01', 0, 0, 1)",
    )?;
    assert_eq!(facts.query("SELECT customer_id, direct, total, depth, net FROM v_trees FORMAT CSV")?, "\"parent\",3,4,2,150");
    Ok(())
}

#[test]
fn seven_thousand_of_nine_thousand_scans_are_concentrated() -> Result<()> {
    let facts = Facts::new("channels")?;
    // The other nine channels have the rest in equal parts: 2,000 / 9 each, so nine times as much of everything.
    facts.query(
        "INSERT INTO activity_day (brand, day, channel, task, scans, new_customers, orders, paid, refunded, version) \
         SELECT 'acme', '2026-11-10', if(number = 0, 'store', concat('c', toString(number))), '0', if(number = 0, 63000, 2000), number, 1, 500, 100, 1 FROM numbers(10)",
    )?;
    facts.query("INSERT INTO activity_day (brand, day, channel, task, scans, orders, paid, version) VALUES ('silent', '2026-11-10', 'store', '0', 0, 1, 100, 1)")?;
    let concentration = |brand: &str| {
        facts.query(&format!(
            "SELECT level, channels, scans, round(top1_share, 4), round(hhi, 4) FROM v_channel_concentration({NOVEMBER}) WHERE brand = '{brand}' ORDER BY level FORMAT CSV"
        ))
    };
    assert_eq!(concentration("acme")?, "\"account\",10,81000,0.7778,0.6104\n\"channel\",10,81000,0.7778,0.6104");
    assert_eq!(concentration("silent")?, "\"account\",1,0,\\N,\\N\n\"channel\",1,0,\\N,\\N");
    facts.query(
        "INSERT INTO activity_day (brand, day, channel, task, scans, visits, new_customers, orders, paid, refunded, version) VALUES \
         ('social', '2026-11-10', 'weibo:one', '0', 30, 3, 2, 1, 500, 0, 1), ('social', '2026-11-11', 'weibo:two', '0', 10, 1, 1, 2, 700, 100, 1), ('social', '2026-11-11', 'store', '0', 60, 0, 5, 0, 0, 0, 1)",
    )?;
    facts.query(
        "INSERT INTO scans (brand, code, event_time, event_id, customer_id, channel, role) SELECT 'social', 'x', toDateTime64('2026-11-10 04:00:00', 3, 'UTC'), toString(number), \
         concat('c', toString(number)), ['weibo:one', 'weibo:two', 'store'][number % 3 + 1], if(number > 5, 'dealer', 'consumer') FROM numbers(9)",
    )?;
    facts.query("INSERT INTO purchases (brand, customer_id, event_time, event_id, channel) VALUES ('social', 'c0', '2026-11-10 05:00:00', 'p', 'weibo:two')")?;
    plant(&facts, "c", 6, "toDate('2026-11-10')", &[0], SCAN)?;
    facts.query("INSERT INTO customer_days (brand, customer_id, day, scans, version) VALUES ('social', 'c0', '2026-11-10', 1, 1)")?;
    let channels = |view: &str, key: &str| {
        facts.query(&format!(
            "SELECT {key}, scans, share, visits, customers, new_customers, orders, net FROM {view}({NOVEMBER}) WHERE brand = 'social' ORDER BY {key} FORMAT CSV"
        ))
    };
    assert_eq!(channels("v_channels", "channel")?, "\"store\",60,0.6,0,2,5,0,0\n\"weibo\",40,0.4,4,4,3,3,1100");
    let accounts = "\"store\",60,0.6,0,2,5,0,0\n\"weibo:one\",30,0.3,3,2,2,1,500\n\"weibo:two\",10,0.1,1,3,1,2,600";
    assert_eq!(channels("v_channel_accounts", "account")?, accounts);
    Ok(())
}

#[test]
fn counties_add_up_to_prefectures_and_provinces_with_their_names() -> Result<()> {
    let facts = Facts::new("region_sums")?;
    facts.query(
        "INSERT INTO activity_day (brand, day, region, task, scans, new_customers, orders, paid, version) VALUES ('acme', '2026-11-10', 440303, '0', 10, 1, 1, 100, 1), \
         ('acme', '2026-11-10', 440304, '0', 20, 2, 0, 0, 1), ('acme', '2026-11-10', 440103, '1', 30, 3, 0, 0, 1), ('acme', '2026-11-10', 0, '1', 40, 4, 0, 0, 1)",
    )?;
    let rows = facts.query(&format!(
        "SELECT level, region, name, scans, new_customers, net, share FROM v_region_activity({NOVEMBER}) WHERE level != 'county' ORDER BY level, region FORMAT CSV"
    ))?;
    let expected = "\"prefecture\",0,\"\",40,4,0,0.4\n\"prefecture\",440100,\"广州市\",30,3,0,0.3\n\"prefecture\",440300,\"深圳市\",30,3,100,0.3\n\
                    \"province\",0,\"\",40,4,0,0.4\n\"province\",440000,\"广东省\",60,6,100,0.6";
    assert_eq!(rows, expected);
    let county = format!("SELECT name, scans FROM v_region_activity({NOVEMBER}) WHERE level = 'county' AND region = 440304 FORMAT CSV");
    assert_eq!(facts.query(&county)?, "\"福田区\",20");
    Ok(())
}

#[test]
fn funnel_pareto_cohorts_and_contribution_add_up() -> Result<()> {
    let facts = Facts::new("aggregates")?;
    plant(&facts, "scanner", 60, "today()", &[5], SCAN)?;
    plant(&facts, "member", 30, "today()", &[5, 6], "1, 1, 0, 1000, 0")?;
    plant(&facts, "whale", 10, "today()", &[5], "1, 1, 0, 99000, 0")?;
    facts.query("INSERT INTO customer_days (brand, customer_id, day, scans, shares, version) SELECT 'acme', concat('whale', toString(number)), today() - 4, 1, 1, 1 FROM numbers(4)")?;
    facts.query("INSERT INTO customer_days (brand, customer_id, day, shares, version) SELECT 'acme', concat('silent', toString(number)), today() - 4, 1, 1 FROM numbers(3)")?;
    facts.refresh("customer_segments")?;
    assert_eq!(facts.query("SELECT * EXCEPT as_of FROM v_funnel FORMAT CSV")?, "\"acme\",100,40,4,0.4,0.1");
    // 30 x 2,000 and 10 x 99,000: the best 8 of 40 buyers have 792,000 of 1,050,000.
    assert_eq!(
        facts.query("SELECT buyers, top_buyers, top_net, net, round(top_share, 6) FROM v_pareto FORMAT CSV")?,
        "40,8,792000,1050000,0.754286"
    );
    assert_eq!(
        facts.query("SELECT customers, one_touch_customers, round(one_touch_share, 6) FROM v_one_touch FORMAT CSV")?,
        "103,69,0.669903"
    );
    let contribution = "SELECT sum(net), max(members), sum(net_a_member) FROM v_member_contribution FORMAT CSV";
    assert_eq!(facts.query(contribution)?, "1050000,40,26250");
    assert_eq!(facts.query("SELECT min(net_a_buying_member >= net_a_member) FROM v_member_contribution")?, "1");
    let months = Facts::new("cohorts")?;
    months.insert(&[Day::pay("a", 90, 100), Day::scan("b", 80), Day::pay("a", 50, 300), Day::scan("c", 10), Day::refund("a", 10, 50)])?;
    // 2026-08-22, 2026-09-01, 2026-10-01, 2026-11-10.
    let cohorts = months.query("SELECT cohort, months_since, customers, active, buyers, orders, net, retention FROM v_cohorts ORDER BY cohort, months_since FORMAT CSV")?;
    let expected = "\"2026-08-01\",0,1,1,1,1,100,1\n\"2026-08-01\",2,1,1,1,1,300,1\n\"2026-08-01\",3,1,1,0,0,-50,1\n\"2026-09-01\",0,1,1,0,0,0,1\n\"2026-11-01\",0,1,1,0,0,0,1";
    assert_eq!(cohorts, expected);
    Ok(())
}
