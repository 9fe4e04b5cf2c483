ALTER TABLE `receipts` ADD `conversation` integer;--> statement-breakpoint
ALTER TABLE `receipts` ADD `names_weights` integer;--> statement-breakpoint
ALTER TABLE `shadow_scores` ADD `conversation` integer;