"""Speed and memory of vaccel, as ratios against a reference measured in the same run."""
