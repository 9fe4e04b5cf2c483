/**
 * Lint rule `copal/layers`: imports go down a list of folders.
 *
 * The lists below are the architecture, from top to bottom. An entry is a folder, meaning the files directly in it, or a
 * single file. A module may import from its own entry and from entries further down in a list that both stand in; type
 * imports and dynamic imports count. So no folders of a list can form a cycle, and the two halves cannot meet.
 */
import { posix, relative, sep } from 'node:path'

const SHARED = under('shared/src', [
  'settings-table.ts',
  'wire',
  'mask',
  'metrics',
  'telemetry',
  'settings',
  '.',
])

const GATEWAY = [
  ...under('gateway/src', [
    'index.ts',
    'app.ts',
    'deps.ts',
    'scheduled-tasks.ts',
    'routes/openai',
    'routes/dashboard',
    'routes/admin',
    'routes/internal',
    'routes/service',
    'openapi',
    'middleware',
    'dashboard',
    'inference',
    'inference/stream',
    'inference/dispatch',
    'inference/cache',
    'inference/validation',
    'adaptation/triggers',
    'adaptation/intake',
    'adaptation/domains',
    'adaptation/discovery',
    'adaptation/masks',
    'adaptation/updates',
    'adaptation/own-masks',
    'adaptation/gate',
    'adaptation/trials',
    'adaptation/holdouts',
    'adaptation/statistics',
    'adaptation/drift/detectors',
    'adaptation/drift/probes',
    'adaptation/drift/alerts',
    'adaptation/drift',
    'adaptation/policy',
    'adaptation/models',
    'adaptation/sampling',
    'adaptation/redaction',
    'keys',
    'usage/settlement',
    'usage/metrics',
    'usage/series',
    'usage/limits',
    'fleet/object',
    'fleet/registration',
    'fleet/client',
    'fleet/auth',
    'fleet/ledger',
    'audit',
    'calls',
    'storage',
    'storage/artifacts',
    'storage/db/queries',
    'storage/db/schema',
    'storage/db',
    'calls/call-budget.ts',
    'telemetry',
    'runtime',
    'contracts',
  ]),
  'gateway/dashboard/built-files.mjs',
  ...SHARED,
]

const NODE = [
  ...under('gpu-node/bench', [
    'main.ts',
    'program.ts',
    'commands',
    'storage',
    'gateways',
    'memory',
    'pruning',
    'engine',
    'serving',
    'models',
    'measurement',
  ]),
  ...under('infra', [
    'lint',
    'deploy',
    'observability/dashboards',
    'local/demo',
    'local/test',
    'local/check',
    'local/start',
    'local/service',
    'local/processes',
    'local/bootstrap.mjs',
    'local/copal.mjs',
    'local/build-native.mjs',
    'local/build-gpu.mjs',
    'local/build-addon.mjs',
    'local/dashboard',
    'local/toolchain',
  ]),
  ...under('gpu-node/cli', [
    'main.ts',
    'program.ts',
    'commands',
    'commands/lab',
    'options',
    'input',
    'api',
    'output',
    '.',
  ]),
  ...under('gpu-node/lab', [
    'compare',
    'report',
    'report/sections',
    'report/document',
    'report/plots',
    'run',
    'results',
    'plan',
    'texts',
  ]),
  ...under('gpu-node/src', [
    'main.ts',
    'compose.ts',
    'node',
    'settings.ts',
    'serving/server',
    'serving/server/routes',
    'serving/server/generation',
    'serving/server/receipts',
    'serving/server/prompts',
    'serving/server/formats',
    'serving/control',
    'serving/masks',
    'serving/telemetry',
    'serving/grammar',
    'serving/advice',
    'serving/backends',
    'serving/backends/onnx',
    'serving/backends/gpu',
    'serving/backends/sparse',
    'serving/backends/weight-set-process',
    'serving/engine',
    'serving/sampling',
    'serving/contract',
    'pruning/runs',
    'pruning/evaluation',
    'pruning/sensitivity',
    'pruning/calibration',
    'pruning/selection',
    'pruning/methods',
    'pruning/refinement',
    'pruning/statistics',
    'pruning/graph',
    'model/mask-file',
    'model/open-model.ts',
    'model/master',
    'model/sensitivities',
    'model/source',
    'model/formats',
    'model/tokenizer',
    'model/config',
    'platform',
  ]),
  'gpu-node/gpu',
  'gpu-node/native',
  ...SHARED,
]

const DASHBOARD = [
  ...under('gateway/dashboard', ['dev', 'dev/responses', 'build.mjs']),
  ...under('gateway/dashboard/src', [
    'main.tsx',
    'early.ts',
    'app',
    'pages/sign-in',
    'pages/overview',
    'pages/domains',
    'pages/domain',
    'pages/updates',
    'pages/masks',
    'pages/nodes',
    'pages/keys',
    'pages/audit',
    'pages/playground',
    'pages/policy',
    'charts',
    'components',
    'session',
    'navigation',
    'data',
    'theme',
    'format',
  ]),
  ...SHARED,
]

const LISTS = [GATEWAY, NODE, DASHBOARD]

/** Folders of the workspaces by package name, as their `exports` map them. */
const PACKAGES = {
  '@copal/shared/': 'shared/src/',
  '@copal/gpu-node/gpu/': 'gpu-node/gpu/',
  '@copal/gpu-node/native/': 'gpu-node/native/',
  '@copal/gpu-node/': 'gpu-node/src/',
  '@copal/lab/': 'gpu-node/lab/',
  '@copal/cli/': 'gpu-node/cli/',
  '@copal/bench/': 'gpu-node/bench/',
}

/** @type {import('oxlint').Rule} */
const layers = {
  meta: { type: 'problem', schema: false },
  create(context) {
    const file = relative(context.cwd, context.filename).split(sep).join('/')
    const lists = LISTS.filter((list) => positionIn(list, file) >= 0)

    /** @param {{ source?: { type: string, value?: unknown } | null }} node */
    function checkImport({ source }) {
      const target = typeof source?.value === 'string' ? resolveImport(file, source.value) : undefined
      if (target === undefined) return
      const problem = lists.length === 0 ? unlisted(file) : violation(lists, file, target)
      if (problem !== undefined) context.report({ node: source, message: problem })
    }

    return {
      ImportDeclaration: checkImport,
      ExportNamedDeclaration: checkImport,
      ExportAllDeclaration: checkImport,
      ImportExpression: checkImport,
      TSImportType: checkImport,
    }
  },
}

export default { meta: { name: 'copal' }, rules: { layers } }

/**
 * The module that an import names, relative to the repository root; `undefined` for a package from the registry.
 *
 * @param {string} from the importing file
 * @param {string} specifier
 */
function resolveImport(from, specifier) {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier)
  const name = Object.keys(PACKAGES).find((prefix) => specifier.startsWith(prefix))
  return name && PACKAGES[name] + specifier.slice(name.length)
}

/** The index of the entry that a file belongs to, its own before its folder's; -1 when the list has neither. */
function positionIn(list, file) {
  const own = list.indexOf(file)
  return own >= 0 ? own : list.indexOf(posix.dirname(file))
}

/** Describes why no list allows an import; `undefined` when one does. */
function violation(lists, file, target) {
  const shared = lists.filter((list) => positionIn(list, target) >= 0)
  if (shared.length === 0) {
    return `${file} must not import ${target}: no list of layers has both (infra/lint/layers.mjs).`
  }
  if (shared.some((list) => positionIn(list, file) <= positionIn(list, target))) return undefined
  return (
    `${file} imports ${target}, which stands above it in the layers (infra/lint/layers.mjs). ` +
    `Imports go down: move what both need further down, or the importing code up.`
  )
}

function unlisted(file) {
  return `The folder of ${file} is missing from the lists in infra/lint/layers.mjs. Add it where its imports go down.`
}

/**
 * Paths of entries below a folder; `.` is the folder itself.
 *
 * @param {string} folder
 * @param {readonly string[]} entries
 */
function under(folder, entries) {
  return entries.map((entry) => posix.join(folder, entry))
}
