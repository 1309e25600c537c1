//! The calendar (UTC) of a number of seconds since 1970.

use super::{Failure, Outcome};
use tidegauge_query::parser::Function;

const DAY: i64 = 86_400;
/// Days of four hundred years, after which the calendar repeats.
const CYCLE: i64 = 146_097;
/// Beyond it floats are no longer whole seconds, and what becomes of them is not defined.
const MOST_SECONDS: f64 = 1e15;

/// Whether it is a function of the calendar.
pub(super) fn is_of_calendar(function: Function) -> bool {
    use Function as F;
    matches!(
        function,
        F::Year | F::Month | F::DayOfMonth | F::DaysInMonth | F::DayOfYear | F::DayOfWeek | F::Hour | F::Minute
    )
}

/// A function of the calendar.
pub(super) fn of(function: Function, seconds: f64) -> Outcome<f64> {
    use Function as F;
    if seconds.is_nan() || seconds.abs() > MOST_SECONDS {
        return Err(Failure::Unsupported("a time that is none"));
    }
    let seconds = seconds.trunc() as i64;
    let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let date = Date::of(day);
    Ok(match function {
        F::Hour => second / 3600,
        F::Minute => second / 60 % 60,
        // 1 January 1970 was a Thursday.
        F::DayOfWeek => (day + 4).rem_euclid(7),
        F::Year => date.year,
        F::Month => date.month as i64,
        F::DayOfMonth => date.day,
        F::DaysInMonth => months(date.year)[date.month - 1],
        F::DayOfYear => months(date.year)[..date.month - 1].iter().sum::<i64>() + date.day,
        _ => return Err(Failure::Unsupported("a function of the calendar")),
    } as f64)
}

struct Date {
    year: i64,
    /// From 1.
    month: usize,
    /// From 1.
    day: i64,
}

impl Date {
    /// Counts years, then months, from 1 January 1970 on.
    fn of(days: i64) -> Self {
        let cycles = days.div_euclid(CYCLE);
        let mut left = days.rem_euclid(CYCLE);
        let mut year = 1970;
        while left >= months(year).iter().sum() {
            left -= months(year).iter().sum::<i64>();
            year += 1;
        }
        let lengths = months(year);
        let mut month = 1;
        while left >= lengths[month - 1] {
            left -= lengths[month - 1];
            month += 1;
        }
        Self {
            year: year + 400 * cycles,
            month,
            day: left + 1,
        }
    }
}

/// The days of a year's months.
fn months(year: i64) -> [i64; 12] {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}
