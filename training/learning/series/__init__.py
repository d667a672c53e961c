"""Networks of time series: per date, over missing dates, over time, over time and space."""
