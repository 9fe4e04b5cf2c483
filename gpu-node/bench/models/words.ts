/** Words of seeded calibration texts. */
export const WORDS = [
  'the',
  'whale',
  'of',
  'union',
  'congress',
  'sea',
  'and',
  'nation',
  'harpoon',
  'budget',
  'ship',
  'law',
]
