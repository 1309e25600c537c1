//! The calendar (UTC) of a number of seconds since the epoch.

use crate::parser::Function;

const DAY: i64 = 86_400;

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// 1 to 31.
    pub(crate) day: i64,
}

impl Date {
    /// The date of a day counted from the epoch, in the proleptic Gregorian calendar.
    ///
    /// # Reference
    /// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day is last.
    pub(crate) fn of_day(days: i64) -> Self {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
        }
    }

    fn is_leap_year(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_in_month(self) -> i64 {
        match self.month {
            2 => 28 + i64::from(self.is_leap_year()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(self) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let before = usize::try_from(self.month - 1)
            .ok()
            .and_then(|m| BEFORE.get(m))
            .copied();
        before.unwrap_or(0) + self.day + i64::from(self.month > 2 && self.is_leap_year())
    }
}

/// How many seconds before the epoch Go's calendar starts.
const GO_START: i64 = 9_223_372_028_741_760_000;

/// Whole seconds, as Go has them on x86: what is no number or too large for 64 bits is the least of them, and times before
/// its calendar starts come round to its end.
fn seconds(value: f64) -> i128 {
    let fits = value >= i64::MIN as f64 && value < -(i64::MIN as f64);
    let whole = if fits { value as i64 } else { i64::MIN };
    i128::from(whole.wrapping_add(GO_START) as u64) - i128::from(GO_START)
}

/// The day and the second of it.
fn day_and_second(value: f64) -> (i64, i64) {
    let (seconds, day) = (seconds(value), i128::from(DAY));
    // Both are far below 64 bits.
    (seconds.div_euclid(day) as i64, seconds.rem_euclid(day) as i64)
}

fn date(value: f64) -> Date {
    Date::of_day(day_and_second(value).0)
}

/// The calendar function of a number of seconds that a PromQL function is, if it is one.
pub(crate) fn of_seconds(function: Function) -> Option<fn(f64) -> f64> {
    use Function as F;
    Some(match function {
        F::Year => |v| date(v).year as f64,
        F::Month => |v| date(v).month as f64,
        F::DayOfMonth => |v| date(v).day as f64,
        F::DaysInMonth => |v| date(v).days_in_month() as f64,
        F::DayOfYear => |v| date(v).day_of_year() as f64,
        F::DayOfWeek => |v| (day_and_second(v).0 + 4).rem_euclid(7) as f64,
        F::Hour => |v| (day_and_second(v).1 / 3600) as f64,
        F::Minute => |v| (day_and_second(v).1 / 60 % 60) as f64,
        _ => return None,
    })
}

/// A time in RFC 3339, to the second.
pub(crate) fn rfc3339(ms: i64) -> String {
    // As upstream: milliseconds are cut towards zero.
    let seconds = ms / 1000;
    let Date { year, month, day } = Date::of_day(seconds.div_euclid(DAY));
    let of_day = seconds.rem_euclid(DAY);
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days_and_the_epoch() {
        for (seconds, text, of_year, of_week, in_month) in [
            (0, "1970-01-01T00:00:00Z", 1.0, 4.0, 31.0),
            (-1, "1969-12-31T23:59:59Z", 365.0, 3.0, 31.0),
            (951_782_400, "2000-02-29T00:00:00Z", 60.0, 2.0, 29.0),
            (1_456_790_399, "2016-02-29T23:59:59Z", 60.0, 1.0, 29.0),
            (1_709_251_199, "2024-02-29T23:59:59Z", 60.0, 4.0, 29.0),
            (4_107_542_400, "2100-03-01T00:00:00Z", 60.0, 1.0, 31.0),
        ] {
            assert_eq!(rfc3339(seconds * 1000), text);
            let value = |f| of_seconds(f).unwrap()(seconds as f64);
            assert_eq!(
                (
                    value(Function::DayOfYear),
                    value(Function::DayOfWeek),
                    value(Function::DaysInMonth)
                ),
                (of_year, of_week, in_month),
                "{text}"
            );
        }
        // As Prometheus 3.5.3 answers.
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 9.3e18] {
            let found = [Function::Year, Function::DayOfYear].map(|f| of_seconds(f).unwrap()(value));
            assert_eq!(found, [292_277_026_596.0, 339.0], "{value}");
        }
    }
}
