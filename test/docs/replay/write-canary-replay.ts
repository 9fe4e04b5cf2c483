/** Writes `docs/results/canary/replay.json`: `node test/docs/replay/write-canary-replay.ts`, about ten minutes. */
import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { BY_REQUEST, HARMFUL, HARMLESS, replayHarmful, replayHarmless, TRAFFIC } from './canary-replay.ts'

const { gate, canary } = PRESETS.production
const replay = {
  policy: {
    max_regression: gate.max_regression,
    max_refresh_regression: gate.max_refresh_regression,
    share: canary.share,
    shadow_share: canary.shadow_share,
    false_alarm: canary.false_alarm,
  },
  traffic: TRAFFIC,
  harmless: HARMLESS.map(replayHarmless),
  by_request: replayHarmless(BY_REQUEST),
  harmful: HARMFUL.map(replayHarmful),
}
const path = resolve(import.meta.dirname, '../../../docs/results/canary/replay.json')
writeFileSync(path, `${JSON.stringify(replay, null, 2)}\n`)
