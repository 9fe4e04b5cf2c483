/** Writes `docs/results/gate/replay.json`: `node test/docs/replay/write-gate-replay.ts`, about ten minutes. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { gateCases } from './gate-cases.ts'
import { replayGate, summarise, type GateWindows } from './gate-replay.ts'

const RUNS = 20_000
const folder = resolve(import.meta.dirname, '../../../docs/results/gate')
const windows = JSON.parse(readFileSync(resolve(folder, 'windows.json'), 'utf8')) as GateWindows
const cases = gateCases(RUNS).map((each) => replayGate(windows, each))
const replay = { policy: PRESETS.production.gate, texts: summarise(windows), cases }
writeFileSync(resolve(folder, 'replay.json'), `${JSON.stringify(replay, null, 2)}\n`)
