import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { partId } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import type { LabResults } from '../../../../gpu-node/lab/results/lab-results.ts'
import type { LabOutcome } from '../../../../gpu-node/lab/run/run-lab.ts'
import type { LabSettings } from '../../../../gpu-node/lab/plan/lab-settings.ts'
import { LAB_DRAW } from '../../../../gpu-node/lab/texts/prepare-domains.ts'
import { runLabSettings as run } from '../../../support/pruning/run-lab-settings.ts'
import { createLabFolder } from '../../../support/pruning/lab-folder.ts'

// Each mask is evaluated in its own process.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 })

/** Device on which every write fails with ENOSPC. */
const FULL_DISK = '/dev/full'

const dir = mkdtempSync(join(tmpdir(), 'copal-lab-'))
let given: LabSettings
let whole: LabOutcome

beforeAll(async () => {
  const folder = await createLabFolder({}, dir)
  given = folder.settings({
    specs: ['law=law.cal.txt:law.eval.txt', 'sea=sea.cal.txt:sea.eval.txt'],
    permutations: 'first',
  })
  whole = await run({ ...given, outDir: join(dir, 'whole') })
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

test.each([
  {
    where: 'during a calibration',
    // The file that commits a block of the second domain.
    path: (results: LabResults, { samples, seed, length }: LabSettings) => {
      const datasetSha256 = results.domains[1]!.calibration!.sha256
      const { baseSha256 } = results.model
      const spec = { baseSha256, datasetSha256, samples, seed, draw: LAB_DRAW, length: length! }
      return join('cache', 'statistics', 'partial', `${partId(spec)}~full`, 'progress.tmp')
    },
    left: { calibrated: 1, selected: 2, evaluated: 2 + 3 },
  },
  {
    where: 'after the first stage',
    path: () => 'results.json.partial',
    left: { calibrated: 0, selected: 1, evaluated: 1 },
  },
])(
  'a disk that is full $where ends the run with one line; with space again the run resumes, to the same result',
  async ({ where, path, left }) => {
    const settings = { ...given, outDir: join(dir, where.replaceAll(' ', '-')) }
    const full = join(settings.outDir, path(whole.results, settings))
    mkdirSync(join(full, '..'), { recursive: true })
    symlinkSync(FULL_DISK, full)
    await expect(run(settings)).rejects.toThrow(
      /^No disk space is left for the laboratory\..*run the same command again\.$/,
    )
    // A resumed calibration renames its folder.
    for (const name of readdirSync(settings.outDir, { recursive: true, encoding: 'utf8' }))
      if (basename(name) === basename(full)) unlinkSync(join(settings.outDir, name))
    const { done, results } = await run(settings)
    expect(done).toEqual(left)
    expect(results.incomplete).toEqual([])
    expect(measured(results)).toEqual(measured(whole.results))
  },
)

/** Results without timings. */
function measured({ runs, dense }: LabResults) {
  return {
    dense,
    runs: runs.map(({ summary, matrices, stages }) => ({
      summary,
      matrices,
      masks: stages.map(({ evaluations }) => evaluations),
    })),
  }
}
