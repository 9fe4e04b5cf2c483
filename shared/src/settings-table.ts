import { ACCESS_SETTINGS } from './settings/access.ts'
import { ADAPTATION_SETTINGS } from './settings/adaptation.ts'
import { DISPATCH_SETTINGS } from './settings/dispatch.ts'
import { LOCAL_SETTINGS } from './settings/local.ts'
import { NODE_SETTINGS } from './settings/node.ts'
import { RETENTION_SETTINGS } from './settings/retention.ts'
import { TELEMETRY_SETTINGS } from './settings/telemetry.ts'

/**
 * Every environment variable that copal reads, with its default. Each is in the file of its subject, and in no other.
 *
 * The programs take their defaults from here, and `docs/configuration.md` is generated from here.
 */
export const SETTINGS = {
  ...ACCESS_SETTINGS,
  ...ADAPTATION_SETTINGS,
  ...RETENTION_SETTINGS,
  ...DISPATCH_SETTINGS,
  ...TELEMETRY_SETTINGS,
  ...NODE_SETTINGS,
  ...LOCAL_SETTINGS,
}
