//! When a cron fires: five fields, or every so many seconds, in a time zone. Pure.
//!
//! Fields are read by `croner`; what a clock that is set forward or back means is decided here. A tick in the hour that is left
//! out comes at the first moment after it, several of them once. A tick in the hour that comes twice comes the first time. Only
//! a schedule that fires in every hour (`*` as the hour) goes on through both: it means "every so often", not "at this time".

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// The longest time that a zone has ever left out, in minutes: a day, and some.
const LONGEST_GAP: i64 = 26 * 60;
/// Ticks that are looked at for one that lies ahead. In the hour that comes twice there are 60 at most.
const MOST_TICKS: usize = 4000;

/// A schedule in its time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: Kind,
    zone: Tz,
}

#[derive(Debug, Clone)]
enum Kind {
    Every(TimeDelta),
    Fields { cron: Box<Cron>, every_hour: bool },
}

/// Why something is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    #[error(
        "must have five fields (minute hour day-of-month month day-of-week) of digits and * / , - ($: the month's last day), or be 'N seconds', 1 to 59{0}"
    )]
    Schedule(String),
    #[error("names a day that never comes")]
    Never,
    #[error("'{0}' is no time zone of the IANA database, such as Europe/Berlin")]
    Zone(String),
}

impl InvalidSchedule {
    /// The key of what is wrong.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Schedule(_) | Self::Never => "schedule",
            Self::Zone(_) => "timezone",
        }
    }
}

impl Schedule {
    /// Reads a schedule; without a zone it is in UTC.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, InvalidSchedule> {
        let zone = zone.map_or(Ok(Tz::UTC), |name| name.parse().map_err(|_| InvalidSchedule::Zone(name.to_owned())))?;
        if let Some(seconds) = text.strip_suffix(" seconds") {
            let seconds =
                seconds.parse::<u8>().ok().filter(|number| (1..=59).contains(number) && !seconds.starts_with(['0', '+']));
            let seconds = seconds.ok_or_else(|| InvalidSchedule::Schedule(String::new()))?;
            return Ok(Self { kind: Kind::Every(TimeDelta::seconds(seconds.into())), zone });
        }
        let fields: Vec<&str> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err(InvalidSchedule::Schedule(String::new())) };
        let plain = |field: &str| !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit() || b"*/,-".contains(&byte));
        let last_day = day.replace('$', "L");
        if ![minute, hour, month, weekday].into_iter().all(plain) || !plain(&day.replace('$', "1")) {
            return Err(InvalidSchedule::Schedule(String::new()));
        }
        if !may_come(day, month, weekday) {
            return Err(InvalidSchedule::Never);
        }
        let pattern = format!("{minute} {hour} {last_day} {month} {weekday}");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&pattern).map_err(|error| InvalidSchedule::Schedule(format!(": {error}")))?;
        Ok(Self { kind: Kind::Fields { cron: Box::new(cron), every_hour: hour == "*" }, zone })
    }

    /// The first tick after a moment.
    pub fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.kind {
            Kind::Every(pause) => at.checked_add_signed(*pause),
            Kind::Fields { cron, every_hour: true } => {
                cron.find_next_occurrence(&at.with_timezone(&self.zone), false).ok().map(|next| next.to_utc())
            }
            Kind::Fields { cron, every_hour: false } => self.next_at_a_time(cron, at),
        }
    }

    /// The last tick that is not after `now`, from a tick that is due.
    pub fn latest(&self, due: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        if let Kind::Every(pause) = &self.kind {
            let seconds = pause.num_seconds().max(1);
            return due + TimeDelta::seconds((now - due).num_seconds() / seconds * seconds).max(TimeDelta::zero());
        }
        let mut latest = due;
        // From near `now`, because a schedule that fires often was missed many times.
        let near = [TimeDelta::hours(1), TimeDelta::days(1), TimeDelta::days(32)].map(|back| now - back);
        if let Some(tick) =
            near.into_iter().filter(|from| *from > due).find_map(|from| self.next_after(from).filter(|tick| *tick <= now))
        {
            latest = tick;
        }
        for _ in 0..MOST_TICKS {
            match self.next_after(latest).filter(|next| *next <= now) {
                Some(next) => latest = next,
                None => break,
            }
        }
        latest
    }

    fn next_at_a_time(&self, cron: &Cron, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The wall clock as if it were never set: in UTC.
        let mut wall = at.with_timezone(&self.zone).naive_local().and_utc();
        for _ in 0..MOST_TICKS {
            wall = cron.find_next_occurrence(&wall, false).ok()?;
            if let Some(tick) = self.moment(wall.naive_utc()).filter(|tick| *tick > at) {
                return Some(tick);
            }
        }
        None
    }

    /// When the wall clock shows a time, for the first time; or the first moment after, when it never does.
    fn moment(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&wall) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => Some(moment.to_utc()),
            LocalResult::None => {
                let mut after = (1..=LONGEST_GAP).map(|minutes| wall + TimeDelta::minutes(minutes));
                let shown = after.find_map(|wall| self.zone.from_local_datetime(&wall).earliest())?;
                // The gap may have ended between two of the minutes that were tried.
                Some((shown - TimeDelta::seconds(i64::from(chrono::Timelike::second(&wall)))).to_utc())
            }
        }
    }
}

/// Whether there is such a day at all, for those who name day and month: the 31st of February never comes.
fn may_come(day: &str, month: &str, weekday: &str) -> bool {
    if weekday != "*" || day.contains(['*', '$']) {
        return true;
    }
    let numbers = |field: &str| -> Option<Vec<u32>> {
        field.split(',').map(|part| part.split(['-', '/']).next().and_then(|first| first.parse().ok())).collect()
    };
    let (Some(days), Some(months)) = (numbers(day), numbers(month)) else { return true };
    if month.contains(['-', '/', '*']) {
        return true;
    }
    let longest = |month: &u32| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    days.iter().any(|day| months.iter().any(|month| *day <= longest(month)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(schedule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, Some(zone)).expect("a schedule");
        let mut at: DateTime<Utc> = from.parse().expect("a time");
        let mut ticks = Vec::new();
        for _ in 0..count {
            at = schedule.next_after(at).expect("another tick");
            ticks.push(at.with_timezone(&schedule.zone).format("%m-%d %H:%M:%S %:z").to_string());
        }
        ticks
    }

    #[test]
    fn schedules_tick_where_they_should() {
        for (schedule, expected) in [
            ("0 9 * * *", ["01-15 09:00:00 +00:00", "01-16 09:00:00 +00:00"]),
            ("*/15 8-9 * * 1-5", ["01-15 08:00:00 +00:00", "01-15 08:15:00 +00:00"]),
            ("0 0 $ * *", ["01-31 00:00:00 +00:00", "02-29 00:00:00 +00:00"]),
            ("0 0 1,$ * *", ["01-31 00:00:00 +00:00", "02-01 00:00:00 +00:00"]),
            ("30 12 * * 0", ["01-21 12:30:00 +00:00", "01-28 12:30:00 +00:00"]),
            ("30 12 * * 7", ["01-21 12:30:00 +00:00", "01-28 12:30:00 +00:00"]),
            ("0 0 13 * 5", ["01-19 00:00:00 +00:00", "01-26 00:00:00 +00:00"]),
            ("10 seconds", ["01-15 07:00:10 +00:00", "01-15 07:00:20 +00:00"]),
            ("59 23 31 12 *", ["12-31 23:59:00 +00:00", "12-31 23:59:00 +00:00"]),
        ] {
            assert_eq!(ticks(schedule, "UTC", "2024-01-15T07:00:00Z", 2), expected, "{schedule}");
        }
    }

    #[test]
    fn the_time_of_day_is_that_of_the_zone_in_summer_and_in_winter() {
        let ticks = ticks("0 9 * * *", "America/New_York", "2024-03-09T12:00:00Z", 2);
        assert_eq!(ticks, ["03-09 09:00:00 -05:00", "03-10 09:00:00 -04:00"]);
    }

    #[test]
    fn a_tick_in_the_hour_that_is_left_out_comes_once_at_the_first_moment_after_it() {
        let before = "2024-03-31T00:30:00Z";
        let once = ["03-31 03:00:00 +02:00", "04-01 02:30:00 +02:00"];
        assert_eq!(ticks("30 2 * * *", "Europe/Berlin", before, 2), once);
        let several = ["03-31 03:00:00 +02:00", "04-01 02:00:00 +02:00", "04-01 02:20:00 +02:00"];
        assert_eq!(ticks("*/20 2 * * *", "Europe/Berlin", before, 3), several);
    }

    #[test]
    fn a_tick_in_the_hour_that_comes_twice_comes_the_first_time() {
        let before = "2024-10-26T23:30:00Z";
        let once = ["10-27 02:30:00 +02:00", "10-28 02:30:00 +01:00"];
        assert_eq!(ticks("30 2 * * *", "Europe/Berlin", before, 2), once);
        let several = ["10-27 02:00:00 +02:00", "10-27 02:30:00 +02:00", "10-28 02:00:00 +01:00"];
        assert_eq!(ticks("*/30 2 * * *", "Europe/Berlin", before, 3), several);
    }

    #[test]
    fn what_fires_every_so_often_goes_on_through_both_changes() {
        let spring = ["03-31 01:30:00 +01:00", "03-31 03:00:00 +02:00", "03-31 03:30:00 +02:00"];
        assert_eq!(ticks("*/30 * * * *", "Europe/Berlin", "2024-03-31T00:00:00Z", 3), spring);
        let autumn = ["10-27 02:30:00 +02:00", "10-27 02:00:00 +01:00", "10-27 02:30:00 +01:00", "10-27 03:00:00 +01:00"];
        assert_eq!(ticks("*/30 * * * *", "Europe/Berlin", "2024-10-27T00:00:00Z", 4), autumn);
    }

    #[test]
    fn a_day_that_a_zone_left_out_is_made_up_for() {
        let samoa = ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 2);
        assert_eq!(samoa, ["12-31 00:00:00 +14:00", "12-31 12:00:00 +14:00"]);
    }

    #[test]
    fn what_is_no_schedule_is_refused_and_says_what_is_wrong() {
        for (text, key) in [
            ("", "schedule"),
            ("hourly", "schedule"),
            ("@daily", "schedule"),
            ("* * * *", "schedule"),
            ("* * * * * *", "schedule"),
            ("*  * * * *", "schedule"),
            ("60 * * * *", "schedule"),
            ("* * * * MON", "schedule"),
            ("$ * * * *", "schedule"),
            ("0 0 L * *", "schedule"),
            ("*/0 * * * *", "schedule"),
            ("0 seconds", "schedule"),
            ("60 seconds", "schedule"),
            ("+5 seconds", "schedule"),
            ("0 0 31 2 *", "schedule"),
            ("0 0 30,31 2 *", "schedule"),
        ] {
            let error = Schedule::parse(text, None).expect_err(text);
            assert_eq!(error.key(), key, "{text}");
        }
        assert_eq!(Schedule::parse("* * * * *", Some("Mars/Olympus")).expect_err("no zone").key(), "timezone");
    }

    #[test]
    fn the_latest_tick_is_found_from_one_that_was_missed() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let daily = Schedule::parse("0 9 * * *", None).expect("a schedule");
        assert_eq!(daily.latest(at("2024-01-01T09:00:00Z"), at("2024-01-05T10:00:00Z")), at("2024-01-05T09:00:00Z"));
        let always = Schedule::parse("* * * * *", None).expect("a schedule");
        assert_eq!(always.latest(at("2024-01-01T09:00:00Z"), at("2024-03-15T10:00:30Z")), at("2024-03-15T10:00:00Z"));
        let yearly = Schedule::parse("0 9 1 1 *", None).expect("a schedule");
        assert_eq!(yearly.latest(at("2020-01-01T09:00:00Z"), at("2024-03-15T10:00:30Z")), at("2024-01-01T09:00:00Z"));
        let often = Schedule::parse("10 seconds", None).expect("a schedule");
        assert_eq!(often.latest(at("2024-01-01T09:00:00Z"), at("2024-01-01T09:00:59Z")), at("2024-01-01T09:00:50Z"));
        assert_eq!(often.latest(at("2024-01-01T09:00:00Z"), at("2024-01-01T08:00:00Z")), at("2024-01-01T09:00:00Z"));
    }
}
