"""The stages of time series: a teacher on complete series, students on masked ones."""
