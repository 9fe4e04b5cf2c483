CREATE TABLE `audit_checkpoints` (
	`id` integer PRIMARY KEY NOT NULL,
	`hash` text NOT NULL,
	`seal` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `audit_pending` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`actor` text NOT NULL,
	`action` text NOT NULL,
	`target` text NOT NULL,
	`before` text,
	`after` text,
	`reason` text DEFAULT '' NOT NULL,
	`request_id` text,
	`created_at` integer NOT NULL,
	`settled` integer NOT NULL
);
--> statement-breakpoint
ALTER TABLE `audit` ADD `seal` text DEFAULT '' NOT NULL;--> statement-breakpoint
CREATE TRIGGER `audit_no_update` BEFORE UPDATE ON `audit`
BEGIN
	SELECT RAISE(ABORT, 'Rows of the audit log are never changed.');
END;--> statement-breakpoint
CREATE TRIGGER `audit_no_delete` BEFORE DELETE ON `audit`
WHEN OLD.`id` > coalesce((SELECT max(`id`) FROM `audit_checkpoints`), 0)
BEGIN
	SELECT RAISE(ABORT, 'Rows of the audit log are deleted only behind a checkpoint.');
END;--> statement-breakpoint
CREATE TRIGGER `audit_checkpoints_no_update` BEFORE UPDATE ON `audit_checkpoints`
BEGIN
	SELECT RAISE(ABORT, 'Checkpoints of the audit log are never changed.');
END;--> statement-breakpoint
CREATE TRIGGER `audit_checkpoints_no_delete` BEFORE DELETE ON `audit_checkpoints`
BEGIN
	SELECT RAISE(ABORT, 'Checkpoints of the audit log are never deleted.');
END;--> statement-breakpoint
CREATE TRIGGER `audit_decisions` AFTER INSERT ON `decisions`
BEGIN
	INSERT INTO `audit_pending` (`actor`, `action`, `target`, `after`, `reason`, `created_at`, `settled`)
	VALUES (
		NEW.`actor`,
		'decision.' || NEW.`kind`,
		NEW.`model` || coalesce('/m' || NEW.`mask_version`, ''),
		json_object('decision', NEW.`id`, 'verdict', NEW.`verdict`, 'update', NEW.`update_id`, 'figures', json(NEW.`figures`)),
		NEW.`reason`,
		NEW.`created_at`,
		1
	);
END;
