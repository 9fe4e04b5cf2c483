/** Writes `docs/results/drift/replay.json`: `node test/docs/replay/write-drift-replay.ts`, some ten minutes. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import {
  changeCases,
  detectorParameters,
  OBSERVATIONS_A_MONTH,
  probeLosses,
  replayChange,
  replayStationary,
  stationaryCases,
  summarise,
  type DriftWindows,
} from './drift-replay.ts'
import { declineCases, replayDecline, replayRhythm, rhythmCases } from './drift-rhythm-replay.ts'

const FOLDER = resolve(import.meta.dirname, '../../../docs/results/drift')
const windows = JSON.parse(readFileSync(join(FOLDER, 'windows.json'), 'utf8')) as DriftWindows
const stationary = stationaryCases(windows).map((each) => {
  process.stderr.write(`${each.source}, ${each.arrivals}\n`)
  return replayStationary(windows, each)
})
const changes = changeCases(windows).map((each) => {
  process.stderr.write(`${each.name}\n`)
  return replayChange(windows, each)
})
const replay = {
  parameters: detectorParameters(),
  observations_a_month: OBSERVATIONS_A_MONTH,
  texts: summarise(windows),
  probes: probeLosses(windows),
  stationary,
  changes,
  rhythms: rhythmCases().map((each) => replayRhythm(windows, each)),
  declines: declineCases().map((each) => replayDecline(windows, each)),
}
writeFileSync(join(FOLDER, 'replay.json'), `${JSON.stringify(replay, null, 1)}\n`)
