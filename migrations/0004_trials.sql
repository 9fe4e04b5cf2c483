ALTER TABLE `models` ADD `canary` text;--> statement-breakpoint
ALTER TABLE `models` ADD `shadow` text;