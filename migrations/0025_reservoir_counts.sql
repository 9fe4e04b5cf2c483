CREATE TABLE `reservoir_counts` (
	`domain` text PRIMARY KEY NOT NULL,
	`samples` integer NOT NULL,
	`characters` integer NOT NULL,
	`seen` integer NOT NULL,
	`holdout_samples` integer NOT NULL,
	`holdout_characters` integer NOT NULL,
	`review_samples` integer NOT NULL,
	`last_sample_at_ms` integer,
	`models` text NOT NULL,
	`examples` text NOT NULL,
	`counted_at_ms` integer NOT NULL
);
