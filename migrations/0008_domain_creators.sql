ALTER TABLE `domains` ADD `created_by` text;
