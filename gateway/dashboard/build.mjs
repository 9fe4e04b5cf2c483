/**
 * Builds the dashboard into `gateway/dashboard/dist`: `index.html`, and an icon, style sheet and scripts whose names contain
 * the hashes of their contents. Prints the sizes. `node gateway/dashboard/build.mjs [folder]`
 */
import { build } from 'esbuild'
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'

const HERE = import.meta.dirname
/** The folder with the built files, which the Worker serves under {@link PUBLIC_PATH}. */
export const DIST = join(HERE, 'dist')
/** The module with the built files. */
const MODULE = join(HERE, 'built-files.mjs')
/** The path under which the files of the dashboard are served. */
export const PUBLIC_PATH = '/dashboard/'
/** Maximum bytes of all files together, each compressed by gzip. */
export const MAX_COMPRESSED_BYTES = 100 * 1024

const ENTRIES = {
  main: 'src/main.tsx',
  early: 'src/early.ts',
  style: 'src/styles/style.css',
  icon: 'icon.svg',
}

/**
 * Builds the dashboard anew.
 *
 * @param {string} [folder] where the files are written to
 * @returns {Promise<{ file: string, bytes: number, compressedBytes: number }[]>} the files and their sizes
 */
export async function buildDashboard(folder = DIST) {
  await mkdir(folder, { recursive: true })
  const before = await readdir(folder)
  const { metafile } = await build({
    entryPoints: Object.entries(ENTRIES).map(([out, path]) => ({ in: join(HERE, path), out })),
    outdir: folder,
    entryNames: '[name]-[hash]',
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    loader: { '.svg': 'copy' },
    legalComments: 'none',
    charset: 'utf8',
    metafile: true,
    absWorkingDir: HERE,
    logLevel: 'warning',
  })
  /** @type {Record<string, string>} */
  const names = {}
  for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) {
    const key = Object.keys(ENTRIES).find((name) => ENTRIES[name] === entryPoint)
    names[key ?? basename(path).split('-')[0]] ??= PUBLIC_PATH + basename(path)
  }
  const template = await readFile(join(HERE, 'index.html'), 'utf8')
  const page = template.replaceAll(/\{\{(\w+)\}\}/g, (_, name) => {
    if (names[name] === undefined) throw new Error(`index.html names ${name}, which was not built.`)
    return names[name]
  })
  await writeFile(join(folder, 'index.html'), page.replaceAll(/>\s+</g, '><').trim())
  const built = new Set(['index.html', ...Object.keys(metafile.outputs).map((path) => basename(path))])
  for (const file of before.filter((name) => !built.has(name)))
    await rm(join(folder, file), { recursive: true })
  if (folder === DIST) await writeModule()
  return sizes(folder)
}

/**
 * Writes the built files as a module, which the Worker is bundled with: as assets of Wrangler they would put another Worker in
 * front of each request of the API.
 */
async function writeModule() {
  const files = await Promise.all(
    (await readdir(DIST)).sort().map(async (name) => {
      const body = await readFile(join(DIST, name), 'utf8')
      return { name, etag: createHash('sha256').update(body).digest('hex').slice(0, 16), body }
    }),
  )
  // In one step: a Wrangler that runs bundles it as soon as it changes.
  await writeFile(`${MODULE}.new`, `export const files = ${JSON.stringify(files)}\n`)
  await rename(`${MODULE}.new`, MODULE)
}

async function sizes(folder) {
  const files = (await readdir(folder)).sort()
  return Promise.all(
    files.map(async (file) => {
      const content = await readFile(join(folder, file))
      return { file, bytes: content.length, compressedBytes: gzipSync(content, { level: 9 }).length }
    }),
  )
}

/** Renders sizes as lines for people. */
export function describeSizes(files) {
  const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} KB`
  const total = files.reduce((sum, { compressedBytes }) => sum + compressedBytes, 0)
  return [
    ...files.map(
      ({ file, bytes, compressedBytes }) =>
        `${file}  ${kilobytes(bytes)}, ${kilobytes(compressedBytes)} compressed`,
    ),
    `In all ${kilobytes(total)} compressed, of at most ${kilobytes(MAX_COMPRESSED_BYTES)}.`,
  ].join('\n')
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.write(`${describeSizes(await buildDashboard(process.argv[2]))}\n`)
}
