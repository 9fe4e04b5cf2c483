/** The weights that the playground can use. */
import type { MaskEntry, NodeEntry } from '@copal/shared/wire/admin.ts'

/** One choice of weights; version 0 is dense. */
export interface WeightChoice {
  version: number
  label: string
  /** Whether a live node holds it, so that it serves at once. */
  isLoaded: boolean
}

/** Returns the choices: the active mask first, then weights that live nodes hold, then other masks whose file is kept. */
export function weightChoices(
  model: string,
  activeVersion: number,
  masks: readonly MaskEntry[],
  nodes: readonly NodeEntry[],
): WeightChoice[] {
  const loaded = new Set(
    nodes
      .filter((node) => node.alive && node.model === model)
      .flatMap((node) =>
        node.weight_sets.filter(({ state }) => state === 'ready').map(({ version }) => version),
      ),
  )
  const versions = [0, ...masks.filter(({ swept_at: swept }) => swept == null).map(({ version }) => version)]
  return versions
    .map((version) => ({
      version,
      label: `${version === 0 ? 'Dense weights' : `Mask ${version}`}${version === activeVersion ? ', active' : ''}${loaded.has(version) ? '' : ', not loaded'}`,
      isLoaded: loaded.has(version),
    }))
    .toSorted(
      (a, b) =>
        Number(b.version === activeVersion) - Number(a.version === activeVersion) ||
        Number(b.isLoaded) - Number(a.isLoaded) ||
        b.version - a.version,
    )
}

/** The first two choices: those of the address, else the active mask beside the dense weights. */
export function firstChoices(
  choices: readonly WeightChoice[],
  query: { left: string | null; right: string | null },
): readonly [left: number, right: number] {
  const known = (text: string | null) =>
    text === null ? undefined : choices.find(({ version }) => String(version) === text)?.version
  const left = known(query.left) ?? choices[0]?.version ?? 0
  const others = choices.filter(({ version, isLoaded }) => version !== left && isLoaded)
  const right =
    known(query.right) ?? others.find(({ version }) => version === 0)?.version ?? others[0]?.version ?? left
  return [left, right]
}
