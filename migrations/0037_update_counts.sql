-- Written by hand. Updates are counted by model and state as they change: a scrape and the triggers read the counts.
INSERT INTO `metric_counts` SELECT 'updates', json_array(`model`, `state`), count(*) FROM `updates` GROUP BY 2;--> statement-breakpoint
CREATE TRIGGER `count_updates_created` AFTER INSERT ON `updates`
BEGIN
	INSERT INTO `metric_counts` VALUES ('updates', json_array(NEW.`model`, NEW.`state`), 1)
	ON CONFLICT DO UPDATE SET `value` = `value` + 1;
END;--> statement-breakpoint
CREATE TRIGGER `count_updates_changed` AFTER UPDATE OF `state` ON `updates` WHEN NEW.`state` <> OLD.`state`
BEGIN
	INSERT INTO `metric_counts`
	SELECT 'updates', json_array(NEW.`model`, `state`), `change`
	FROM (SELECT OLD.`state` AS `state`, -1 AS `change` UNION ALL SELECT NEW.`state`, 1) WHERE true
	ON CONFLICT DO UPDATE SET `value` = `value` + excluded.`value`;
END;--> statement-breakpoint
CREATE TRIGGER `count_updates_deleted` AFTER DELETE ON `updates`
BEGIN
	UPDATE `metric_counts` SET `value` = `value` - 1
	WHERE `metric` = 'updates' AND `labels` = json_array(OLD.`model`, OLD.`state`);
END;
