const box=document.querySelector('#find'),count=document.querySelector('#count');
const cards=[...document.querySelectorAll('.card')];
const opened=new Set();
function find(){
  const words=box.value.toLowerCase().split(/\s+/).filter(Boolean);let shown=0,rows=0;
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
