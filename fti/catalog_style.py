"""The catalogue's style sheet and its script: no file beside the page, no network."""

STYLE = """
:root {
  color-scheme:light dark; --bg:#f6f7f9; --card:#fff; --text:#18202b; --soft:#5b6675; --line:#e2e6ec;
  --accent:#2f5fd0; --tint:#e9effc; --bar:#6d93e8; --bar2:#7fb08c; --good:#1a7f4b; --goodbg:#e3f4ea;
  --warn:#9a5b00; --warnbg:#fdf0d9; --bad:#b3261e; --badbg:#fce8e6; --mark:#ffe08a;
}
@media (prefers-color-scheme:dark) {
  :root {
    --bg:#10141a; --card:#181e27; --text:#e6eaf0; --soft:#98a4b5; --line:#2a323e; --accent:#8fb2ff; --tint:#1f2b44;
    --bar:#5b82d8; --bar2:#5f9a70; --good:#6fd39b; --goodbg:#15301f; --warn:#f0bd6a; --warnbg:#35280f;
    --bad:#ff8f86; --badbg:#3a1a18; --mark:#7a5e00;
  }
}
* { box-sizing:border-box }
html { scroll-padding-top:84px; scroll-behavior:smooth }
body {
  margin:0; background:var(--bg); color:var(--text);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
}
a { color:var(--accent); text-decoration:none }
a:hover { text-decoration:underline }
code,.mono { font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; font-size:.86em }
header {
  position:sticky; top:0; z-index:5; background:var(--card); border-bottom:1px solid var(--line);
  padding:12px 24px; display:flex; gap:20px; align-items:center;
}
header strong { font-size:17px; white-space:nowrap }
header .made { color:var(--soft); font-size:12.5px; margin-left:auto; white-space:nowrap }
.find { position:relative; flex:1; max-width:560px }
.find input {
  width:100%; padding:9px 84px 9px 14px; border:1px solid var(--line); border-radius:9px; background:var(--bg);
  color:var(--text); font:inherit;
}
.find input:focus { outline:2px solid var(--accent); outline-offset:-1px }
.find output { position:absolute; right:12px; top:10px; color:var(--soft); font-size:12.5px; pointer-events:none }
.layout {
  display:grid; grid-template-columns:248px minmax(0,1fr); gap:28px; max-width:1320px; margin:0 auto; padding:24px;
}
nav { position:sticky; top:88px; align-self:start; max-height:calc(100vh - 110px); overflow:auto; font-size:14px }
nav h2 { font-size:11.5px; letter-spacing:.07em; text-transform:uppercase; color:var(--soft); margin:18px 0 5px }
nav h2:first-child { margin-top:0 }
nav a {
  display:flex; justify-content:space-between; gap:8px; padding:3px 9px; border-radius:6px; color:var(--text);
}
nav a:hover { background:var(--tint); text-decoration:none }
nav a small { color:var(--soft) }
h1 { font-size:25px; margin:0 0 4px; letter-spacing:-.01em }
.lead { color:var(--soft); margin:0 0 18px; max-width:75ch }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(116px,1fr)); gap:10px; margin-bottom:22px }
.fact { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:10px 14px }
.fact b { display:block; font-size:17px; font-weight:640; white-space:nowrap; font-variant-numeric:tabular-nums }
.fact span { color:var(--soft); font-size:12.5px }
section h2.group {
  font-size:12.5px; letter-spacing:.07em; text-transform:uppercase; color:var(--soft); margin:30px 0 10px;
}
.card { background:var(--card); border:1px solid var(--line); border-radius:12px; margin-bottom:12px }
.card:target { border-color:var(--accent); box-shadow:0 0 0 1px var(--accent) }
summary { list-style:none; cursor:pointer; padding:14px 18px; display:block }
summary::-webkit-details-marker { display:none }
summary:focus-visible { outline:2px solid var(--accent); border-radius:12px }
.head { display:flex; flex-wrap:wrap; gap:6px 10px; align-items:center }
.head h3 { font-size:16.5px; margin:0 }
.head h3:before {
  content:""; display:inline-block; border:5px solid transparent; border-left-color:var(--soft); margin-right:4px;
  transition:transform .12s; transform-origin:3px 50%;
}
details[open]>summary .head h3:before { transform:rotate(90deg) }
.head .numbers { margin-left:auto; color:var(--soft); font-size:13px; font-variant-numeric:tabular-nums }
.card p.about { margin:4px 0 0 14px; color:var(--soft) }
.tag {
  font-size:12px; padding:1px 8px; border-radius:99px; background:var(--tint); color:var(--accent);
  white-space:nowrap;
}
.tag.good { background:var(--goodbg); color:var(--good) }
.tag.warn { background:var(--warnbg); color:var(--warn) }
.tag.bad { background:var(--badbg); color:var(--bad) }
.tag.plain { background:none; border:1px solid var(--line); color:var(--soft) }
.body { padding:2px 18px 16px; border-top:1px solid var(--line) }
dl { display:grid; grid-template-columns:max-content minmax(0,1fr); gap:5px 18px; margin:14px 0; font-size:14px }
dt { color:var(--soft) }
dd { margin:0; overflow-wrap:anywhere }
ul.plain { margin:0; padding:0; list-style:none }
.scroll { overflow-x:auto; margin:0 -18px; padding:0 18px }
table { border-collapse:collapse; width:100%; font-size:13.5px }
th {
  text-align:left; font-weight:500; color:var(--soft); font-size:12px; padding:6px 12px 6px 0;
  border-bottom:1px solid var(--line); white-space:nowrap;
}
td { padding:5px 12px 5px 0; border-bottom:1px solid var(--line); vertical-align:middle }
tr:last-child td { border-bottom:0 }
tr:target td { background:var(--tint) }
td.num,th.num { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap }
td .mono { color:var(--text) }
td.type { color:var(--soft); white-space:nowrap }
td.what { max-width:260px }
td.what small { display:block; color:var(--soft); overflow-wrap:anywhere }
svg.plot { display:block; width:120px; height:30px; overflow:visible }
svg.plot path { fill:var(--bar) }
svg.plot.text path { fill:var(--bar2) }
svg.plot line { stroke:var(--line) }
.nulls {
  display:inline-block; width:44px; height:5px; border-radius:3px; background:var(--line); vertical-align:middle;
  margin-left:6px; overflow:hidden;
}
.nulls i { display:block; height:100%; background:var(--warn) }
.none { color:var(--soft); font-style:italic }
.hide { display:none!important }
mark { background:var(--mark); color:inherit; border-radius:2px }
footer { color:var(--soft); font-size:12.5px; margin:34px 0 10px }
@media (max-width:860px) {
  .layout { grid-template-columns:minmax(0,1fr); padding:14px; gap:0 }
  nav { display:none }
  header { flex-wrap:wrap; padding:10px 14px; gap:8px }
  .find { order:3; flex-basis:100%; max-width:none }
  html { scroll-padding-top:110px }
  h1 { font-size:21px }
  dl { grid-template-columns:minmax(0,1fr); gap:0 }
  dd { margin-bottom:7px }
  .head .numbers { margin-left:0; width:100% }
  .body,summary { padding-left:14px; padding-right:14px }
  .scroll { margin:0 -14px; padding:0 14px }
  .wide { display:none }
}
@media print {
  header,nav { display:none }
  .layout { display:block }
}
"""

SCRIPT = """
const box=document.querySelector('#find'),count=document.querySelector('#count');
const cards=[...document.querySelectorAll('.card')];
const opened=new Set();
function find(){
  const words=box.value.toLowerCase().split(/\\s+/).filter(Boolean);let shown=0,rows=0;
  const has=text=>words.every(word=>text.includes(word));
  for(const card of cards){
    const whole=card.dataset.text,about=has(whole),lines=[...card.querySelectorAll('tr[data-text]')];
    let hits=0;
    for(const line of lines){const hit=!words.length||about||has(whole+' '+line.dataset.text);
      line.classList.toggle('hide',!hit);hits+=hit&&!about}
    const show=!words.length||about||hits>0;card.classList.toggle('hide',!show);shown+=show;rows+=words.length?hits:0;
    const details=card.querySelector('details');
    if(words.length&&hits&&!details.open){details.open=true;opened.add(details)}
    if((!words.length||!hits)&&opened.delete(details))details.open=false}
  for(const link of document.querySelectorAll('nav a')){
    const card=document.getElementById(link.hash.slice(1));
    link.classList.toggle('hide',!!card&&card.classList.contains('hide'))}
  for(const group of document.querySelectorAll('section'))
    group.classList.toggle('hide',!!words.length&&!group.querySelector('.card:not(.hide)'));
  count.textContent=words.length?shown+' found'+(rows?', '+rows+' columns':''):'';
}
function reveal(){
  let aim=null;try{aim=document.getElementById(decodeURIComponent(location.hash.slice(1)))}catch(error){return}
  if(!aim)return;const details=aim.querySelector(':scope>details')||aim.closest('details');
  if(details)details.open=true;aim.scrollIntoView()}
box.addEventListener('input',find);
document.addEventListener('keydown',event=>{
  if(event.key==='/'&&document.activeElement!==box){event.preventDefault();box.focus()}
  if(event.key==='Escape'&&document.activeElement===box){box.value='';find();box.blur()}});
window.addEventListener('hashchange',reveal);
const asked=new URLSearchParams(location.search).get('q');if(asked){box.value=asked;find()}
reveal();
"""
