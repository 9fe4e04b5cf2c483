import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { build } from 'esbuild'
import type { Plugin } from 'vitest/config'

const FOLDERS = ['gateway/src', 'shared/src']
const BUNDLE = 'virtual:bundled-sources'
/** Resolved by the tests as well, which must get the same classes. */
const OF_TESTS_TOO = ['drizzle-orm', 'drizzle-orm/*', 'zod']
/**
 * For a bundle of ASCII alone, of which workerd takes one byte a character instead of two: literals of strings and regular
 * expressions can be escaped, templates of `String.raw` cannot.
 */
const COMPACT = { minifyWhitespace: true, supported: { 'template-literal': false } }
/**
 * A source map that maps nothing, as a comment. Vitest looks for a map of each frame of each error, and without one it would read the
 * bundle from its end to its beginning each time.
 */
const NO_MAP = `//# sourceMappingURL=data:application/json;base64,${Buffer.from('{"version":3,"sources":[],"names":[],"mappings":""}').toString('base64')}`
/** These follow imports from file to file. */
const NEED_FILES = ['--changed', '--watch', 'related', 'watch']

/**
 * Gives tests the Worker's sources as one module. A workerd process asks for one module after the other, and each test file
 * evaluates them anew; the sources with their packages are some 900. A source that a test imports becomes a module that exports
 * what its part of the bundle does.
 *
 * @param root the checkout
 * @returns nothing where Vitest follows imports from file to file, as with `--changed`
 */
export function bundledSources(root: string): Plugin[] {
  if (process.argv.some((argument) => NEED_FILES.includes(argument.replace(/=.*/, '')))) return []
  const files = FOLDERS.flatMap((folder) => sourcesIn(join(root, folder)))
  const parts = new Map(files.map((file) => [file, partName(relative(root, file))]))
  let names: Promise<Map<string, readonly string[]>> | undefined
  return [
    {
      name: 'bundled-sources',
      enforce: 'pre',
      resolveId: (id) => (id === BUNDLE ? `\0${BUNDLE}` : undefined),
      async load(id) {
        if (id === `\0${BUNDLE}`) return bundle(root, parts)
        const part = parts.get(id)
        if (part === undefined) return undefined
        names ??= namesOf(root, files)
        const lines = ((await names).get(id) ?? []).map((name) =>
          name === 'default' ? `export default ${part}.default` : `export const ${name} = ${part}.${name}`,
        )
        return lines.length === 0 ? 'export {}' : [`import { ${part} } from '${BUNDLE}'`, ...lines].join('\n')
      },
    },
  ]
}

/** Returns a name that stays the same when other files come or go: Vitest keeps modules on disk between runs. */
function partName(path: string): string {
  return `part_${createHash('sha256').update(path).digest('hex').slice(0, 16)}`
}

function sourcesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => join(folder, name))
}

/** Bundles all files as Wrangler bundles the Worker. */
async function bundle(root: string, parts: ReadonlyMap<string, string>) {
  const { outputFiles } = await build({
    stdin: {
      contents: [...parts]
        .map(([file, part]) => `export * as ${part} from ${JSON.stringify(file)}`)
        .join('\n'),
      resolveDir: root,
    },
    bundle: true,
    format: 'esm',
    target: 'esnext',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['cloudflare:*', 'node:*', ...OF_TESTS_TOO],
    keepNames: true,
    // Positions in the sources, for people; the map and the blanks are most of what every test file is sent.
    ...(process.env.CI ? COMPACT : { sourcemap: 'external', sourcesContent: false }),
    outdir: join(root, 'node_modules', '.cache'),
    write: false,
    logLevel: 'error',
  })
  const textOf = (ending: string) => outputFiles.find(({ path }) => path.endsWith(ending))?.text ?? ''
  if (!process.env.CI) return { code: textOf('.js'), map: textOf('.js.map') }
  const ascii = textOf('.js').replaceAll(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  // Without mappings: for null Vite would make a map as large as the bundle.
  return { code: `${ascii}\n${NO_MAP}\n`, map: { mappings: '' } }
}

/** Returns the names that each file exports. */
async function namesOf(root: string, files: readonly string[]): Promise<Map<string, readonly string[]>> {
  const { metafile } = await build({
    entryPoints: [...files],
    bundle: false,
    format: 'esm',
    metafile: true,
    write: false,
    outdir: join(root, 'node_modules', '.cache'),
    logLevel: 'error',
  })
  return new Map(
    Object.values(metafile.outputs).flatMap(({ entryPoint, exports }) =>
      entryPoint === undefined ? [] : [[join(root, entryPoint), exports]],
    ),
  )
}
