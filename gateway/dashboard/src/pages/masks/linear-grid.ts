/** Values of linears as a grid of layers × kinds. */

/** A value of one linear. */
export interface LinearValue {
  layer: number
  kind: string
  value: number
}

/** Rows are kinds, columns layers; null where a layer has no such linear. */
export interface LinearGrid {
  kinds: string[]
  layers: number[]
  /** `values[kind][layer]`. */
  values: (number | null)[][]
}

/** The order in which a block of a transformer computes its linears. */
const KIND_ORDER = [
  'q_proj',
  'k_proj',
  'v_proj',
  'qkv_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'gate_up_proj',
  'down_proj',
]

/** Lays values out by layer and kind. */
export function linearGrid(linears: readonly LinearValue[]): LinearGrid {
  const layers = [...new Set(linears.map(({ layer }) => layer))].toSorted((a, b) => a - b)
  const kinds = [...new Set(linears.map(({ kind }) => kind))].toSorted(
    (a, b) => placeOf(a) - placeOf(b) || (a < b ? -1 : 1),
  )
  const byName = new Map(linears.map(({ layer, kind, value }) => [`${layer} ${kind}`, value]))
  return {
    kinds,
    layers,
    values: kinds.map((kind) => layers.map((layer) => byName.get(`${layer} ${kind}`) ?? null)),
  }
}

function placeOf(kind: string): number {
  const place = KIND_ORDER.indexOf(kind)
  return place < 0 ? KIND_ORDER.length : place
}

/** The linear with the largest and the smallest value; `undefined` without any. */
export function extremesOf(
  linears: readonly LinearValue[],
): { most: LinearValue; least: LinearValue } | undefined {
  const [first] = linears
  if (!first) return undefined
  let most = first
  let least = first
  for (const linear of linears) {
    if (linear.value > most.value) most = linear
    if (linear.value < least.value) least = linear
  }
  return { most, least }
}

/** Names a linear for people: `down_proj of layer 3`. */
export function nameOfLinear({ kind, layer }: LinearValue): string {
  return `${kind} of layer ${layer}`
}
