/**
 * A result of the laboratory with **generated** numbers: nothing in it was measured. Shapes, orders of magnitude
 * and dependencies (windows that are hard are hard under every mask) are those of a real run, so that reports and
 * comparisons have something to show and to pair.
 */
import { createHash } from 'node:crypto'
import { choosePermutations } from '../../../gpu-node/lab/plan/permutations.ts'
import { summarise } from '../../../gpu-node/lab/results/summary.ts'
import type {
  LabEvaluation,
  LabResults,
  LabRun,
  LabStage,
  LayerError,
  StageMatrix,
} from '../../../gpu-node/lab/results/lab-results.ts'
import { createRandom } from '../harness/random.ts'

const CALIBRATED = ['encyclopedia', 'newswire', 'code']
const UNSEEN = ['speeches', 'mail']
const DENSE_PERPLEXITY = { encyclopedia: 21, newswire: 44, code: 4.53, speeches: 22.4, mail: 27.8 }
const WINDOWS = 24
const WINDOW_TOKENS = 1024
const LAYERS = 12
const LINEARS = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
]

type Domain = keyof typeof DENSE_PERPLEXITY
interface Method {
  method: string
  scope: LabRun['scope']
  datasets: LabRun['datasets']
  /** Excess NLL at 50 %, nats a token. */
  excess: number
  /** Further excess on a domain that was not calibrated on. */
  unseen: number
  /** Output error after refinement, of that before. */
  refined?: number
}

const METHODS: Method[] = [
  { method: 'magnitude', scope: 'matrix', datasets: 'none', excess: 3.1, unseen: 0 },
  { method: 'wanda', scope: 'row', datasets: 'newest', excess: 0.66, unseen: 0.3 },
  { method: 'sparsegpt', scope: 'row', datasets: 'newest', excess: 0.52, unseen: 0.55, refined: 0.8 },
  { method: 'copal', scope: 'matrix', datasets: 'accumulated', excess: 1.05, unseen: 0.1 },
  { method: 'copal', scope: 'row', datasets: 'accumulated', excess: 0.75, unseen: 0.08 },
  { method: 'continual-wanda', scope: 'row', datasets: 'accumulated', excess: 0.66, unseen: 0.07 },
  {
    method: 'continual-sparsegpt',
    scope: 'row',
    datasets: 'accumulated',
    excess: 0.53,
    unseen: 0.12,
    refined: 0.8,
  },
  {
    method: 'continual-wanda+swaps',
    scope: 'row',
    datasets: 'accumulated',
    excess: 0.49,
    unseen: 0.11,
    refined: 0.6,
  },
  {
    method: 'continual-wanda+swaps+reconstruct',
    scope: 'row',
    datasets: 'accumulated',
    excess: 0.4,
    unseen: 0.1,
    refined: 0.45,
  },
]

/**
 * @param options `shift` is added to every pruned NLL: another run whose masks are that much worse. `methods` leaves out
 * the runs of all others, which saves a comparison or report their bootstraps.
 */
export function generatedResults(
  options: { seed?: number; shift?: number; methods?: readonly string[] } = {},
): LabResults {
  const random = createRandom(options.seed ?? 1)
  const hardness = new Map([...CALIBRATED, ...UNSEEN].map((name) => [name, centred(WINDOWS, random, 0.25)]))
  const evaluate = (domain: string, excess: number): LabEvaluation => {
    const noise = centred(WINDOWS, random, 0.03)
    const base = Math.log(DENSE_PERPLEXITY[domain as Domain]) + excess
    const windowNll = (hardness.get(domain) ?? []).map((hard, window) => base + hard + (noise[window] ?? 0))
    const nllMean = windowNll.reduce((sum, nll) => sum + nll, 0) / WINDOWS
    return { nllMean, perplexity: Math.exp(nllMean), tokens: WINDOWS * (WINDOW_TOKENS - 1), windowNll }
  }
  const makeRun = (run: Pick<LabRun, 'purpose' | 'pattern' | 'samples'> & { method: Method }): LabRun => {
    const { method, purpose, pattern, samples } = run
    const stages = stageSets(method, purpose === 'main').map((domains): LabStage => {
      const excessOf = (domain: string): number => {
        const known = method.datasets === 'none' || domains.includes(domain)
        const company = known ? 0.025 * Math.max(0, domains.length - 1) : method.unseen
        return method.excess * severity(pattern) * (1 + 0.8 / samples) + company + (options.shift ?? 0)
      }
      return {
        domains,
        maskSha256: sha256([method.method, method.scope, pattern, samples, ...domains].join()),
        sparsity: pattern.includes(':') ? 0.5 : Number(pattern),
        seconds: { select: 4 + 60 * (method.refined ? 1 - method.refined : 0), evaluate: 31.5 },
        layerErrors: method.refined ? layerErrors(method.refined, random) : null,
        evaluations: Object.fromEntries(
          [...CALIBRATED, ...UNSEEN].map((domain) => [domain, evaluate(domain, excessOf(domain))]),
        ),
      }
    })
    const matrices =
      purpose === 'main'
        ? choosePermutations(CALIBRATED, 'all', random).map((order) => matrix(order, method, stages))
        : []
    return {
      purpose,
      method: method.method,
      pattern,
      scope: method.scope,
      samples,
      datasets: method.datasets,
      stages,
      matrices,
      summary: summarise(matrices),
    }
  }
  const dense = Object.fromEntries([...CALIBRATED, ...UNSEEN].map((domain) => [domain, evaluate(domain, 0)]))
  const compared = METHODS.filter(({ method }) => options.methods?.includes(method) ?? true)
  const swept = compared.filter(({ method, scope }) => method.includes('wanda') || scope === 'row')
  return {
    format_version: 1,
    created: '2026-01-02T03:04:05.000Z',
    version: '0.0.0-generated',
    machine: {
      cpu: 'generated, not measured',
      cores: 2,
      memoryBytes: 24e9,
      os: 'linux x64 (generated)',
      onnxruntime: '0.0.0',
    },
    settings: {
      samples: 16,
      length: 512,
      seed: 0,
      propagation: 'dense',
      windowTokens: WINDOW_TOKENS,
      evaluationTokens: WINDOWS * WINDOW_TOKENS,
    },
    model: {
      id: 'generated-135m',
      baseSha256: sha256('base'),
      parameters: 134_515_008,
      layers: LAYERS,
      hidden: 576,
    },
    domains: [...CALIBRATED, ...UNSEEN].map((name) => ({
      name,
      calibration: CALIBRATED.includes(name)
        ? { path: `${name}.calibration.txt`, sha256: sha256(`${name} calibration`), tokens: 131_072 }
        : null,
      evaluation: {
        sha256: sha256(`${name} evaluation`),
        tokens: WINDOWS * (WINDOW_TOKENS - 1),
        windows: WINDOWS,
      },
    })),
    dense,
    runs: [
      ...['0.5', '2:4'].flatMap((pattern) =>
        compared.map((method) => makeRun({ purpose: 'main', pattern, samples: 16, method })),
      ),
      ...['0.3', '0.4', '0.5', '0.6', '0.7'].flatMap((pattern) =>
        swept.map((method) => makeRun({ purpose: 'sparsity-sweep', pattern, samples: 16, method })),
      ),
      ...[1, 4, 16, 64].flatMap((samples) =>
        swept.map((method) => makeRun({ purpose: 'sample-sweep', pattern: '0.5', samples, method })),
      ),
    ],
    calibration: CALIBRATED.flatMap((domain) =>
      [16, 64].map((samples) => ({
        domain,
        samples,
        seconds: samples * 2.6,
        tokens: samples * 512,
        tokensPerSecond: 512 / 2.6,
      })),
    ),
    incomplete: [],
  }
}

/** The distinct sets of domains that a method selects from. */
function stageSets({ datasets }: Method, whole: boolean): string[][] {
  if (datasets === 'none') return [[]]
  if (datasets === 'newest') return CALIBRATED.map((domain) => [domain])
  if (!whole) return [CALIBRATED.toSorted()]
  const [a = '', b = '', c = ''] = CALIBRATED
  return [[a], [b], [c], [a, b], [a, c], [b, c], [a, b, c]].map((domains) => domains.toSorted())
}

function matrix(order: string[], { datasets }: Method, stages: LabStage[]): StageMatrix {
  const stageAfter = (count: number): LabStage | undefined => {
    const known = datasets === 'none' ? [] : order.slice(datasets === 'newest' ? count - 1 : 0, count)
    return stages.find(({ domains }) => domains.join() === known.toSorted().join())
  }
  return {
    order,
    R: order.map((_, stage) =>
      order.map((domain, position) =>
        position > stage ? null : (stageAfter(stage + 1)?.evaluations[domain]?.perplexity ?? null),
      ),
    ),
    churn: order
      .slice(1)
      .map((_, stage) => (datasets === 'none' ? 0 : datasets === 'newest' ? 0.21 : 0.12 / (stage + 1))),
  }
}

function layerErrors(refined: number, random: () => number): Record<string, LayerError> {
  return Object.fromEntries(
    Array.from({ length: LAYERS }, (_, layer) =>
      LINEARS.map((linear, kind) => {
        const before = 10 ** (kind - 2) * (layer + 1)
        const ratio = refined + 0.12 * Math.sin(layer / 2 + kind) * (1 - refined) + 0.02 * random()
        return [`model.layers.${layer}.${linear}.weight`, { before, after: before * ratio }]
      }),
    ).flat(),
  )
}

/** How much harder than unstructured 50 % a pattern is. */
function severity(pattern: string): number {
  return pattern.includes(':') ? 1.7 : (Number(pattern) / 0.5) ** 3
}

/** Uniform in ± `spread`, with mean 0. */
function centred(count: number, random: () => number, spread: number): number[] {
  const draws = Array.from({ length: count }, () => (2 * random() - 1) * spread)
  const mean = draws.reduce((sum, draw) => sum + draw, 0) / count
  return draws.map((draw) => draw - mean)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
