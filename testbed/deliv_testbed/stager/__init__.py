"""The dummy stager: real files, real callbacks over HTTPS, faults by product id."""
