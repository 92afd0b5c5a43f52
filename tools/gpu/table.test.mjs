// Tests of the table's arithmetic on made-up loops: node --test

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agrees, shares, worse } from './table.mjs';

const loop = (multiply_adds, alu, around = null, inside = 0, integer_multiplies = 0) => ({ alu, around, inside, counts: { multiply_adds, integer_multiplies } });

test('counts agree within two per cent, as multiples and parts', () => {
  for (const n of [1024, 1030, 256, 2048]) assert.ok(agrees(n, 1024), n);
  for (const n of [1050, 300, 1500]) assert.ok(!agrees(n, 1024), n);
});

test('the instructions of the outer loop are divided among the iterations of the inner one', () => {
  const loops = [loop(0, 76, null, 1, 12), loop(256, 265, 0)];
  const { share, integer_multiplies, wrong } = shares({ loops }, [1024]);
  assert.equal(share.toFixed(2), (102400 / (4 * 265 + 76)).toFixed(2));
  assert.equal(integer_multiplies, 12);
  assert.deepEqual(wrong, []);
  // An unrolled loop has no loop around it.
  assert.equal(shares({ loops: [loop(0, 500, null, 1), loop(1024, 1280, 0)] }, [1024]).share, 80);
});

test('several products count together, without the instructions between them', () => {
  const loops = [loop(20, 300, null, 2), loop(64, 80, 0), loop(128, 176, 0)];
  assert.equal(shares({ loops }, [64, 128]).share, 75);
});

test('a wrong number of multiply-adds is reported, and so is none at all', () => {
  assert.match(shares({ loops: [loop(300, 400)] }, [1024]).wrong[0], /300 multiply-adds, 1024 counted/);
  assert.match(shares({ loops: [loop(0, 50)] }, [24]).wrong[0], /no loop/);
  assert.deepEqual(shares({ loops: [] }, []), {});
});

test('spills and lower shares fail, but not a lower share with another compiler', () => {
  const now = (share, spills = 0, compiler = 'Mesa 1') => ({
    compilers: { navi21: compiler }, rows: [{ kernel: 'k', variant: 'v', gpus: { navi21: { share, spills } } }],
  });
  const old = { gpus: { navi21: { compiler: 'Mesa 1', shares: { 'k, v': 90 } } } };
  assert.deepEqual(worse(old, now(88)), []);
  assert.equal(worse(old, now(87.9)).length, 1);
  assert.deepEqual(worse(old, now(50, 0, 'Mesa 2')), []);
  assert.equal(worse(old, now(90, 3, 'Mesa 2')).length, 1);
  assert.equal(worse(old, now(90, NaN, 'Mesa 2')).length, 1);
  assert.match(worse(old, now(undefined))[0], /no multiply-adds/);
  assert.equal(worse({ gpus: {} }, now(90)).length, 1);
});
