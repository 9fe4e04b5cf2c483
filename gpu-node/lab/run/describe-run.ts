import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { availableParallelism, platform, release, totalmem } from 'node:os'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import { isDeepStrictEqual } from 'node:util'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { encodeRowSensitivity } from '@copal/gpu-node/model/sensitivities/row-sensitivity.ts'
import type { RunDescription } from './assemble-results.ts'
import { parameterCount } from './estimate-run.ts'
import type { MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'
import type { PreparedDomain } from '../texts/prepare-domains.ts'
import type { LabSettings } from '../plan/lab-settings.ts'
import { processorName } from '@copal/gpu-node/platform/processor-name.ts'

/** Describes the machine, model, texts and settings of a run, for its results. */
export function describeRun(
  model: DenseModel,
  { domains, warnings }: { domains: readonly PreparedDomain[]; warnings: string[] },
  settings: Pick<
    LabSettings,
    'samples' | 'seed' | 'maxWindows' | 'propagation' | 'variants' | 'patternRules'
  > & {
    length: number
    windowTokens: number
  },
  permutations: string[][],
  created: string,
): RunDescription {
  const { config } = model
  const { samples, length, seed, windowTokens, maxWindows, propagation } = settings
  const patternRules = settings.patternRules as Record<string, string>
  return {
    created,
    version: versionOf(new URL('../../../package.json', import.meta.url)),
    machine: {
      cpu: processorName(),
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      os: `${platform()} ${release()}`,
      onnxruntime: versionOf(new URL(import.meta.resolve('onnxruntime-node/package.json'))),
    },
    settings: {
      samples,
      length,
      seed,
      propagation,
      ...(Object.keys(patternRules).length > 0 ? { patternRules } : {}),
      windowTokens,
      evaluationTokens: maxWindows === null ? null : maxWindows * windowTokens,
    },
    model: {
      id: model.id,
      baseSha256: model.master.baseSha256,
      parameters: parameterCount(config),
      layers: config.layers,
      hidden: config.hiddenSize,
    },
    permutations,
    sensitivities: describeSensitivities(model, settings.variants),
    warnings,
    domains: domains.map(({ name, calibration, evaluation }) => ({
      name,
      calibration: calibration && {
        path: calibration.path,
        sha256: calibration.sha256,
        tokens: calibration.sequences.get(samples)?.tokens.length ?? 0,
      },
      evaluation: {
        sha256: evaluation.sha256,
        windowsSha256: evaluation.cut.sha256,
        tokens: evaluation.cut.windows.reduce((sum, window) => sum + window.length - 1, 0),
        windows: evaluation.cut.windows.length,
      },
    })),
  }
}

/** Tells whether two runs have the same settings, model and texts; their methods and patterns may differ. */
export function haveSameInputs(a: RunDescription, b: RunDescription): boolean {
  const inputs = ({ settings, model, domains }: RunDescription) => ({ settings, model, domains })
  return isDeepStrictEqual(inputs(a), inputs(b))
}

/** Hashes of the sensitivities that the methods read, and of the texts on which they were measured. */
function describeSensitivities(
  { layerSensitivity, rowSensitivity }: Pick<DenseModel, 'layerSensitivity' | 'rowSensitivity'>,
  variants: readonly MethodVariant[],
): RunDescription['sensitivities'] {
  const methods = variants.map(({ method }) => parseMethod(method))
  const hashOf = (content: string) => createHash('sha256').update(content).digest('hex')
  return {
    layers:
      layerSensitivity && methods.some(({ allocated }) => allocated)
        ? { sha256: hashOf(JSON.stringify(layerSensitivity)), textSha256: layerSensitivity.text.sha256 }
        : null,
    rows:
      rowSensitivity && methods.some(({ rows }) => rows)
        ? { sha256: hashOf(encodeRowSensitivity(rowSensitivity)), textSha256: rowSensitivity.text.sha256 }
        : null,
  }
}

function versionOf(path: string | URL): string {
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version
}
